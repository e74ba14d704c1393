//! Details of a status, looked at before `tonic` is: it panics where they are not base64 (0.14,
//! `Status::from_header_map`), and a peer that is broken, or none of ours, could end a task so.

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use http::{HeaderMap, HeaderName, Response};
use http_body_util::BodyExt;
use tonic::body::Body;

const DETAILS: HeaderName = HeaderName::from_static("grpc-status-details-bin");

/// With or without padding: gRPC over HTTP/2, "Binary-Header".
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The answer without details that cannot be decoded: code and message say what they can.
pub(crate) fn readable(answer: Response<Body>) -> Response<Body> {
    let (mut head, body) = answer.into_parts();
    drop_unreadable(&mut head.headers);
    let body = body.map_frame(|mut frame| {
        if let Some(trailers) = frame.trailers_mut() {
            drop_unreadable(trailers);
        }
        frame
    });
    Response::from_parts(head, Body::new(body))
}

fn drop_unreadable(headers: &mut HeaderMap) {
    let mut details = headers.get_all(&DETAILS).iter();
    if details.any(|octets| BASE64.decode(octets).is_err()) {
        tracing::warn!("a node's error has details that are not base64; they are left out");
        headers.remove(&DETAILS);
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use http_body::Frame;
    use http_body_util::StreamBody;
    use tonic::Status;

    use super::*;

    fn headers(details: &'static str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert("grpc-status", HeaderValue::from_static("14"));
        headers.insert("grpc-message", HeaderValue::from_static("away"));
        headers.insert(DETAILS, HeaderValue::from_static(details));
        headers
    }

    async fn through(details: &'static str) -> [Status; 2] {
        let trailers = Frame::trailers(headers(details));
        let frames = futures::stream::iter([Ok::<_, Status>(trailers)]);
        let mut answer = Response::new(Body::new(StreamBody::new(frames)));
        *answer.headers_mut() = headers(details);
        let answer = readable(answer);
        let head = Status::from_header_map(answer.headers());
        let body = answer.into_body().collect().await.unwrap();
        [head, Status::from_header_map(body.trailers().unwrap())].map(Option::unwrap)
    }

    #[tokio::test]
    async fn details_that_are_not_base64_are_left_out() {
        for bad in ["!", "a", "YWJj=", "YWJj*"] {
            for status in through(bad).await {
                assert_eq!(
                    (status.message(), status.details()),
                    ("away", &b""[..]),
                    "{bad}"
                );
            }
        }
        for (good, octets) in [("YWJj", 3), ("YWI=", 2), ("YWI", 2), ("", 0)] {
            for status in through(good).await {
                assert_eq!(status.details(), &b"abc"[..octets], "{good}");
            }
        }
    }
}
