//! Compiles the protos in pure Rust: protox reads them, so that no protoc is needed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let set = protox::compile(["proto/posthouse.proto"], ["proto"])?;
    let mut config = tonic_prost_build::configure()
        .bytes(".")
        // A row is half a kilobyte, and it is moved more often than it is looked at.
        .boxed("posthouse.v1.FetchPiece.piece.message")
        // The command line prints answers as JSON under the names that the proto gives.
        .type_attribute(".", "#[derive(serde::Serialize)]");
    let hex = "#[serde(serialize_with = \"crate::json::hex\")]";
    for field in [
        "request_id",
        "page_token",
        "next_page_token",
        "blob_id",
        "join_id",
        "hash",
    ] {
        config = config.field_attribute(field, hex);
    }
    let hex_u64 = "#[serde(serialize_with = \"crate::json::hex_u64\")]";
    config = config.field_attribute("account_id", hex_u64);
    // Their Debug is written by hand (`src/secret.rs`), without the passwords.
    for message in [
        "SetPasswordRequest",
        "AddAppPasswordResponse",
        "AuthenticateRequest",
    ] {
        config = config.skip_debug([format!("posthouse.v1.{message}")]);
    }
    config.compile_fds(set)?;
    Ok(())
}
