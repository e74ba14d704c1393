//! The commands: one file each, or a few that differ in a word.

pub mod append;
pub mod capability;
pub mod close;
pub mod compress;
pub mod copy;
pub mod enable;
pub mod expunge;
pub mod fetch;
pub mod idle;
pub mod list;
pub mod login;
pub mod lsub;
pub mod mailboxes;
pub mod metadata;
pub mod notify;
pub mod quota;
pub mod search;
pub mod select;
pub mod simple;
pub mod sort;
pub mod starttls;
pub mod status;
pub mod store;
pub mod thread;

use super::parse::Command;
use super::respond::{Done, Stop};
use super::session::Session;

/// Carries out a command; what it answers beside its end is queued.
pub(super) async fn run(s: &mut Session, tag: &str, command: Command) -> Result<Done, Stop> {
    match command {
        Command::Capability => capability::capability(s),
        Command::Noop => Ok(Done::ok("nothing done")),
        Command::Check => s.selected().map(|_| Done::ok("checked")),
        Command::Logout => simple::logout(s, tag).await,
        Command::Id => simple::id(s),
        Command::StartTls => starttls::starttls(s, tag).await,
        Command::Authenticate(mechanism, initial) => {
            login::authenticate(s, &mechanism, initial).await
        }
        Command::Login(user, password) => login::login(s, user, password).await,
        Command::Enable(names) => enable::enable(s, &names),
        Command::Select(select) => select::select(s, select).await,
        Command::Create(name, uses) => mailboxes::create(s, &name, uses).await,
        Command::Delete(name) => mailboxes::delete(s, &name).await,
        Command::Rename(from, to) => mailboxes::rename(s, &from, &to).await,
        Command::Subscribe(name, on) => mailboxes::subscribe(s, &name, on).await,
        Command::List(command) => list::list(s, command).await,
        Command::Lsub(reference, pattern) => lsub::lsub(s, &reference, &pattern).await,
        Command::Namespace => simple::namespace(s),
        Command::Status(name, items) => status::status(s, &name, &items).await,
        Command::Idle => idle::idle(s).await,
        Command::Notify(command) => notify::notify(s, command).await,
        Command::Close => close::close(s).await,
        Command::Unselect => close::unselect(s),
        Command::Expunge(set) => expunge::expunge(s, set).await,
        Command::Search(uid, command) => search::search(s, tag, uid, command).await,
        Command::Sort(uid, command) => sort::sort(s, uid, command).await,
        Command::Thread(uid, command) => thread::thread(s, uid, command).await,
        Command::Fetch(uid, set, items) => fetch::fetch(s, uid, &set, items).await,
        Command::Store(uid, set, command) => store::store(s, uid, &set, command).await,
        Command::Copy(uid, set, name) => copy::copy(s, uid, &set, &name).await,
        Command::Move(uid, set, name) => copy::move_messages(s, uid, &set, &name).await,
        Command::GetMetadata(command) => metadata::get(s, command).await,
        Command::SetMetadata(command) => metadata::set(s, command).await,
        Command::GetQuota(root) => quota::get(s, &root).await,
        Command::GetQuotaRoot(name) => quota::root(s, &name).await,
        Command::SetQuota => s
            .account()
            .and_then(|_| Err(Done::no("CANNOT", "there are no limits here").into())),
        Command::Compress(mechanism) => compress::compress(s, tag, &mechanism).await,
        Command::Unknown => Err(Done::bad("unknown command").into()),
    }
}
