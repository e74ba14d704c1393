//! A cluster of nodes that only pretend: real gRPC over loopback, mail in one shared map.
//!
//! All nodes share one world, so that "what the cluster has stored" is one thing to look at; who
//! leads, who is busy, and whose answers get lost is switched by the test.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt};
use parking_lot::Mutex;
use posthouse_client::error::{CLUSTER_METADATA, Error, PLACEMENT_METADATA};
use posthouse_client::ids::{AccountName, BlobId};
use posthouse_client::proto::accounts_server::{Accounts, AccountsServer};
use posthouse_client::proto::cluster_server::{Cluster, ClusterServer};
use posthouse_client::proto::messages_server::{Messages, MessagesServer};
use posthouse_client::proto::*;
use tonic::{Request, Response, Status, Streaming};

mod world;
pub use world::World;

#[derive(Clone)]
struct FakeNode {
    id: u64,
    world: Arc<Mutex<World>>,
}

impl FakeNode {
    /// What every call goes through first.
    async fn enter<T>(&self, request: &Request<T>, name: &'static str) -> Result<(), Status> {
        let frozen = {
            let mut world = self.world.lock();
            world.calls.push((self.id, name));
            world.frozen.contains(&self.id)
        };
        if frozen {
            std::future::pending::<()>().await;
        }
        let mut world = self.world.lock();
        let expected = request.metadata().get(CLUSTER_METADATA);
        if expected.is_some_and(|e| e != world.cluster_id.as_str()) {
            let message = "another cluster".into();
            return Err(Error::WrongCluster { message }.to_status());
        }
        if name == "placement" {
            return Ok(());
        }
        if world.busy > 0 {
            world.busy -= 1;
            return Err(Error::Busy {
                retry_after: Duration::from_millis(120),
                message: "window".into(),
            }
            .to_status());
        }
        if world.stale > 0 {
            world.stale -= 1;
            let version = world.version;
            return Err(Error::StalePlacement { version }.to_status());
        }
        Ok(())
    }

    fn leads(&self, account: &str) -> Result<(), Status> {
        let world = self.world.lock();
        let shard = world.shard_of(account);
        world
            .check_leader(self.id, shard)
            .map_err(|e| e.to_status())
    }

    fn answer<T>(&self, message: T) -> Response<T> {
        let mut response = Response::new(message);
        let version = self.world.lock().version.to_string();
        let metadata = response.metadata_mut();
        metadata.insert(PLACEMENT_METADATA, version.parse().unwrap());
        response
    }

    fn store(&self, request_id: &Bytes, account: &str, octets: &Bytes) -> DeliverResult {
        let mut world = self.world.lock();
        let key = (request_id.clone(), account.to_owned());
        if let Some(first) = world.seen.get(&key) {
            return DeliverResult {
                duplicate: true,
                ..first.clone()
            };
        }
        let mail = world.mail.get_mut(account);
        let error = Error::not_found("account", account).to_detail();
        let Some(mail) = mail else {
            return DeliverResult {
                account: account.into(),
                error: Some(error),
                ..DeliverResult::default()
            };
        };
        mail.push(octets.clone());
        let result = DeliverResult {
            account: account.into(),
            mailbox: "INBOX".into(),
            uidvalidity: 1,
            uid: mail.len() as u32,
            ..DeliverResult::default()
        };
        world.seen.insert(key, result.clone());
        result
    }

    fn asked(&self, watched: &mut BTreeMap<String, u64>, request: WatchRequest) {
        let mut world = self.world.lock();
        for name in request.remove {
            watched.remove(&name);
            world.watches.push((self.id, name, None));
        }
        for add in request.add {
            watched.insert(add.account.clone(), add.since);
            world.watches.push((self.id, add.account, Some(add.since)));
        }
    }

    fn told(&self, watched: &mut BTreeMap<String, u64>) -> Result<Vec<WatchEvent>, Status> {
        let mut events = Vec::new();
        let names: Vec<String> = watched.keys().cloned().collect();
        for account in names {
            self.leads(&account)?;
            let world = self.world.lock();
            let since = watched[&account];
            let nothing = Vec::new();
            let changes = world.changes.get(&account).unwrap_or(&nothing);
            let modseq = changes.len() as u64;
            let mut event = WatchEvent {
                account: account.clone(),
                modseq,
                ..WatchEvent::default()
            };
            if !world.mail.contains_key(&account) {
                event.gone = true;
                watched.remove(&account);
            } else if since == modseq {
                continue;
            } else {
                event.resync = since > modseq;
                event.mailboxes = changes.iter().skip(since as usize).copied().collect();
                watched.insert(account, modseq);
            }
            events.push(event);
        }
        Ok(events)
    }

    /// Loses the answer to what took effect, if one is to be lost; those to repetitions arrive.
    fn lose_answer(&self, repeated: bool) -> Result<(), Status> {
        let mut world = self.world.lock();
        if world.lost_answers > 0 && !repeated {
            world.lost_answers -= 1;
            if world.then_busy {
                world.busy = u32::MAX;
            }
            let message = "no quorum in time".into();
            return Err(Error::Unavailable { message }.to_status());
        }
        Ok(())
    }
}

#[tonic::async_trait]
impl Messages for FakeNode {
    async fn deliver(
        &self,
        request: Request<Streaming<DeliverRequest>>,
    ) -> Result<Response<DeliverResponse>, Status> {
        self.enter(&request, "deliver").await?;
        let mut stream = request.into_inner();
        let mut head = None;
        let mut octets = Vec::new();
        let mut end = None;
        while let Some(part) = stream.message().await? {
            match part.part.unwrap() {
                deliver_request::Part::End(e) => end = Some(e.size),
                deliver_request::Part::Head(h) => head = Some(h),
                deliver_request::Part::Data(d) => {
                    assert!(d.len() <= 256 * 1024);
                    octets.extend_from_slice(&d);
                }
            }
        }
        let head: DeliverHead = head.unwrap();
        if end != Some(octets.len() as u64) {
            return Err(Error::bad_request("end", "is missing").to_status());
        }
        assert!(head.size_hint == 0 || head.size_hint == octets.len() as u64);
        let octets = Bytes::from(octets);
        let identity = match head.by_content {
            true => Bytes::from(head.sender.clone().into_bytes()),
            false => head.request_id.clone(),
        };
        let mut results = Vec::new();
        for r in &head.recipients {
            let shard = self.world.lock().shard_of(&r.account);
            let leads = self.world.lock().check_leader(self.id, shard);
            results.push(match leads {
                Ok(()) => self.store(&identity, &r.account, &octets),
                Err(e) => DeliverResult {
                    account: r.account.clone(),
                    error: Some(e.to_detail()),
                    ..DeliverResult::default()
                },
            });
        }
        let stored = results.iter().any(|r| r.error.is_none() && !r.duplicate);
        self.lose_answer(!stored)?;
        Ok(self.answer(DeliverResponse {
            blob_id: BlobId::of(&octets).0.to_vec().into(),
            size: octets.len() as u64,
            results,
        }))
    }

    async fn append(
        &self,
        request: Request<Streaming<AppendRequest>>,
    ) -> Result<Response<AppendResponse>, Status> {
        self.enter(&request, "append").await?;
        let mut stream = request.into_inner();
        let Some(append_request::Part::Head(head)) = stream.message().await?.and_then(|p| p.part)
        else {
            return Err(Error::bad_request("head", "is missing").to_status());
        };
        self.leads(&head.account)?;
        let mut messages = Vec::new();
        let mut octets = Vec::new();
        let (mut more, mut open) = (head.more, true);
        while let Some(part) = stream.message().await? {
            match part.part.unwrap() {
                append_request::Part::Data(d) if open => octets.extend_from_slice(&d),
                append_request::Part::End(e) if open && e.size == octets.len() as u64 => {
                    messages.push(Bytes::from(std::mem::take(&mut octets)));
                    open = false;
                }
                append_request::Part::Head(h) if more && !open => {
                    assert_eq!(
                        (&h.request_id, &h.account),
                        (&head.request_id, &head.account)
                    );
                    (more, open) = (h.more, true);
                }
                other => panic!("{other:?}"),
            }
        }
        if open || more {
            return Err(Error::bad_request("end", "is missing").to_status());
        }
        // The stored answer is that of the first; the others follow it.
        let first = self.store(&head.request_id, &head.account, &messages[0]);
        if let (None, false) = (&first.error, first.duplicate) {
            let mut world = self.world.lock();
            let mail = world.mail.get_mut(&head.account).unwrap();
            mail.extend_from_slice(&messages[1..]);
        }
        self.lose_answer(first.duplicate)?;
        if let Some(detail) = first.error {
            return Err(posthouse_client::error::to_status(detail));
        }
        let last = &messages[messages.len() - 1];
        Ok(self.answer(AppendResponse {
            blob_id: BlobId::of(last).0.to_vec().into(),
            size: last.len() as u64,
            uidvalidity: first.uidvalidity,
            uid: first.uid,
            duplicate: first.duplicate,
            count: messages.len() as u32,
            ..AppendResponse::default()
        }))
    }

    async fn list_messages(
        &self,
        request: Request<ListMessagesRequest>,
    ) -> Result<Response<ListMessagesResponse>, Status> {
        self.enter(&request, "list").await?;
        let r = request.into_inner();
        self.leads(&r.account)?;
        let count = self.world.lock().mail[&r.account].len() as u32;
        let first = r.uids.map_or(1, |u| u.first).max(1);
        let page: Vec<Message> = (first..=count)
            .take(r.limit as usize)
            .map(|uid| Message {
                uid,
                ..Message::default()
            })
            .collect();
        let next = page.last().map_or(0, |m| m.uid + 1);
        Ok(self.answer(ListMessagesResponse {
            messages: page,
            next_uid: if next > count { 0 } else { next },
            ..ListMessagesResponse::default()
        }))
    }

    type FetchBlobStream = BoxStream<'static, Result<FetchBlobResponse, Status>>;

    async fn fetch_blob(
        &self,
        request: Request<FetchBlobRequest>,
    ) -> Result<Response<Self::FetchBlobStream>, Status> {
        self.enter(&request, "fetch").await?;
        let r = request.into_inner();
        self.leads(&r.account)?;
        let mut world = self.world.lock();
        let mail = &world.mail[&r.account];
        let by_id = |m: &&Bytes| BlobId::of(m).0 == *r.blob_id;
        let found = match r.uid {
            0 => mail.iter().find(by_id),
            uid => mail.get(uid as usize - 1),
        };
        let missing = || Error::not_found("message", "no such uid").to_status();
        let whole = found.cloned().ok_or_else(missing)?;
        let id = BlobId::of(&whole);
        let start = (r.offset as usize).min(whole.len());
        let end = match r.length {
            0 => whole.len(),
            n => (start + n as usize).min(whole.len()),
        };
        let mut octets = whole[start..end].to_vec();
        if world.damage && !octets.is_empty() {
            octets[0] ^= 1;
        }
        let mut limit = usize::MAX;
        if world.fetch_breaks.1 > 0 {
            world.fetch_breaks.1 -= 1;
            limit = world.fetch_breaks.0;
        }
        let mut pieces = Vec::new();
        let mut sent = 0;
        for chunk in octets.chunks(1000) {
            if sent + chunk.len() > limit {
                pieces.push(Err(Status::unavailable("connection reset")));
                break;
            }
            pieces.push(Ok(FetchBlobResponse {
                account_modseq: 0,
                blob_id: id.0.to_vec().into(),
                size: whole.len() as u64,
                offset: (start + sent) as u64,
                data: chunk.to_vec().into(),
            }));
            sent += chunk.len();
        }
        if octets.is_empty() {
            pieces.push(Ok(FetchBlobResponse {
                account_modseq: 0,
                blob_id: id.0.to_vec().into(),
                size: whole.len() as u64,
                ..FetchBlobResponse::default()
            }));
        }
        drop(world);
        Ok(self.answer(futures::stream::iter(pieces).boxed()))
    }

    async fn set_flags(
        &self,
        _: Request<SetFlagsRequest>,
    ) -> Result<Response<SetFlagsResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn expunge(
        &self,
        _: Request<ExpungeRequest>,
    ) -> Result<Response<ExpungeResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    type FetchStream = BoxStream<'static, Result<FetchResponse, Status>>;
    type SearchStream = BoxStream<'static, Result<SearchResponse, Status>>;
    type WatchStream = BoxStream<'static, Result<WatchResponse, Status>>;

    /// Section [] is the message, [1] its second half, and there is no other. The modseq of a
    /// message is its uid.
    async fn fetch(
        &self,
        request: Request<FetchRequest>,
    ) -> Result<Response<Self::FetchStream>, Status> {
        self.enter(&request, "read").await?;
        let r = request.into_inner();
        self.leads(&r.account)?;
        let mut world = self.world.lock();
        let mut pieces = Vec::new();
        for (uid, whole) in (1..).zip(&world.mail[&r.account]) {
            let asked = |u: &UidRange| u.first <= uid && (u.last == 0 || uid <= u.last);
            let asked = r.uids.is_empty() || r.uids.iter().any(asked);
            if !asked || u64::from(uid) <= r.changed_since {
                continue;
            }
            pieces.push(fetch_piece::Piece::Message(Box::new(Fetched {
                uid,
                modseq: uid.into(),
                size: whole.len() as u64,
                blob_id: BlobId::of(whole).0.to_vec().into(),
                ..Fetched::default()
            })));
            for (index, section) in (0..).zip(&r.sections) {
                let mut octets = match section.path.as_slice() {
                    [] => whole.to_vec(),
                    [1] => whole[whole.len() / 2..].to_vec(),
                    _ => {
                        pieces.push(fetch_piece::Piece::Section(SectionData {
                            index,
                            outcome: section_data::Outcome::NoSuchPart as i32,
                            last: true,
                            ..SectionData::default()
                        }));
                        continue;
                    }
                };
                octets.drain(..octets.len().min(section.offset as usize));
                if section.length > 0 {
                    octets.truncate(section.length as usize);
                }
                if world.damage && !octets.is_empty() {
                    octets[0] ^= 1;
                }
                let mut left = octets.len() as u64;
                let mut data = SectionData {
                    index,
                    size: left,
                    last: octets.is_empty() || section.size_only,
                    ..SectionData::default()
                };
                if data.last {
                    pieces.push(fetch_piece::Piece::Section(data));
                    continue;
                }
                for chunk in octets.chunks(700) {
                    data.size = left;
                    left -= chunk.len() as u64;
                    data.last = left == 0;
                    data.data = chunk.to_vec().into();
                    pieces.push(fetch_piece::Piece::Section(data.clone()));
                }
            }
        }
        let mut room = usize::MAX;
        if world.fetch_breaks.1 > 0 {
            world.fetch_breaks.1 -= 1;
            room = world.fetch_breaks.0;
        }
        // A message costs as much as ten octets.
        let cost = |piece: &fetch_piece::Piece| match piece {
            fetch_piece::Piece::Message(_) => 10,
            fetch_piece::Piece::Section(s) => s.data.len(),
        };
        let mut kept = 0;
        while kept < pieces.len() && room >= cost(&pieces[kept]) {
            room -= cost(&pieces[kept]);
            kept += 1;
        }
        let broken = kept < pieces.len();
        pieces.truncate(kept);
        if broken && world.breaks_move_leader {
            let shard = world.shard_of(&r.account);
            let leader = &mut world.shards.get_mut(&shard).unwrap().2;
            *leader = *leader % 3 + 1;
        }
        drop(world);
        let mut answers = vec![Ok(FetchResponse {
            keywords: vec![Keyword {
                id: 7,
                name: "$Seven".into(),
            }],
            highest_modseq: 99,
            ..FetchResponse::default()
        })];
        for three in pieces.chunks(3) {
            let piece = |p: &fetch_piece::Piece| FetchPiece {
                piece: Some(p.clone()),
            };
            answers.push(Ok(FetchResponse {
                pieces: three.iter().map(piece).collect(),
                ..FetchResponse::default()
            }));
        }
        if broken {
            answers.push(Err(Status::unavailable("connection reset")));
        }
        Ok(self.answer(futures::stream::iter(answers).boxed()))
    }

    /// Every message matches, one piece each; the total comes after a pause.
    async fn search(
        &self,
        request: Request<SearchRequest>,
    ) -> Result<Response<Self::SearchStream>, Status> {
        self.enter(&request, "search").await?;
        let r = request.into_inner();
        self.leads(&r.account)?;
        let mut world = self.world.lock();
        let count = world.mail[&r.account].len() as u32;
        let piece = |uid| SearchResponse {
            uids: vec![UidRange {
                first: uid,
                last: uid,
            }],
            searched: uid,
            ..SearchResponse::default()
        };
        let mut pieces: Vec<Result<SearchResponse, Status>> =
            (1..=count).map(|uid| Ok(piece(uid))).collect();
        pieces.push(Ok(SearchResponse {
            last: true,
            count: u64::from(count),
            matched_modseq: 9,
            ..SearchResponse::default()
        }));
        if world.search_breaks.0 > 0 {
            world.search_breaks.0 -= 1;
            pieces.truncate(1);
            pieces.push(Err(Status::unavailable("connection reset")));
            if let Some(leader) = world.search_breaks.1 {
                let shard = world.shard_of(&r.account);
                if let Some(shard) = world.shards.get_mut(&shard) {
                    shard.2 = leader;
                }
            }
        }
        drop(world);
        let slow = futures::stream::iter(pieces).then(|piece| async {
            tokio::time::sleep(Duration::from_millis(60)).await;
            piece
        });
        Ok(self.answer(slow.boxed()))
    }

    async fn copy(&self, _: Request<CopyRequest>) -> Result<Response<CopyResponse>, Status> {
        Err(Status::unimplemented("not by the fake"))
    }

    async fn r#move(&self, _: Request<CopyRequest>) -> Result<Response<CopyResponse>, Status> {
        Err(Status::unimplemented("not by the fake"))
    }

    async fn get_changes(
        &self,
        _: Request<GetChangesRequest>,
    ) -> Result<Response<GetChangesResponse>, Status> {
        Err(Status::unimplemented("not by the fake"))
    }

    async fn watch(
        &self,
        request: Request<Streaming<WatchRequest>>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        self.enter(&request, "watch").await?;
        let mut requests = request.into_inner();
        let (tx, rx) = tokio::sync::mpsc::channel(16);
        let node = self.clone();
        let mut news = self.world.lock().news.subscribe();
        tokio::spawn(async move {
            let mut watched = BTreeMap::new();
            loop {
                match node.told(&mut watched) {
                    Ok(events) if events.is_empty() => {}
                    Ok(events) => drop(tx.send(Ok(WatchResponse { events })).await),
                    Err(status) => {
                        tx.send(Err(status)).await.ok();
                        return;
                    }
                }
                tokio::select! {
                    request = requests.message() => match request {
                        Ok(Some(request)) => node.asked(&mut watched, request),
                        _ => return,
                    },
                    changed = news.changed() => if changed.is_err() { return },
                }
            }
        });
        let events = tokio_stream::wrappers::ReceiverStream::new(rx);
        Ok(self.answer(events.boxed()))
    }
}

#[tonic::async_trait]
impl Accounts for FakeNode {
    async fn create_account(
        &self,
        request: Request<CreateAccountRequest>,
    ) -> Result<Response<CreateAccountResponse>, Status> {
        self.enter(&request, "create").await?;
        let name = request.into_inner().account;
        self.leads(&name)?;
        self.world.lock().mail.entry(name.clone()).or_default();
        self.lose_answer(false)?;
        let account = Account {
            name,
            ..Account::default()
        };
        Ok(self.answer(CreateAccountResponse {
            account: Some(account),
        }))
    }

    async fn get_account(
        &self,
        request: Request<GetAccountRequest>,
    ) -> Result<Response<GetAccountResponse>, Status> {
        self.enter(&request, "get").await?;
        let name = request.into_inner().account;
        self.leads(&name)?;
        if !self.world.lock().mail.contains_key(&name) {
            return Err(Error::not_found("account", name).to_status());
        }
        let account = Account {
            name,
            ..Account::default()
        };
        Ok(self.answer(GetAccountResponse {
            account: Some(account),
        }))
    }

    /// Pages of one account; the token is the number of the next one.
    async fn list_accounts(
        &self,
        request: Request<ListAccountsRequest>,
    ) -> Result<Response<ListAccountsResponse>, Status> {
        self.enter(&request, "list").await?;
        let r = request.into_inner();
        let world = self.world.lock();
        world
            .check_leader(self.id, r.shard)
            .map_err(|e| e.to_status())?;
        let names = world.mail.keys();
        let names: Vec<&String> = names.filter(|n| world.shard_of(n) == r.shard).collect();
        let at = r.page_token.first().copied().unwrap_or(0) as usize;
        let accounts = names.iter().skip(at).take(1).map(|n| Account {
            name: n.to_string(),
            ..Account::default()
        });
        let response = ListAccountsResponse {
            accounts: accounts.collect(),
            next_page_token: match at + 1 < names.len() {
                true => vec![at as u8 + 1].into(),
                false => Bytes::new(),
            },
        };
        drop(world);
        Ok(self.answer(response))
    }

    async fn delete_account(
        &self,
        _: Request<DeleteAccountRequest>,
    ) -> Result<Response<DeleteAccountResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn get_usage(
        &self,
        _: Request<GetUsageRequest>,
    ) -> Result<Response<GetUsageResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn set_account_state(
        &self,
        _: Request<SetAccountStateRequest>,
    ) -> Result<Response<SetAccountStateResponse>, Status> {
        Err(Status::unimplemented("not by the fake"))
    }
}

macro_rules! not_here {
    ($($name:ident($request:ty) -> $response:ty;)*) => {$(
        fn $name<'a: 'r, 'r>(
            &'a self,
            _: Request<$request>,
        ) -> futures::future::BoxFuture<'r, Result<Response<$response>, Status>> {
            Box::pin(async { Err(Status::unimplemented("")) })
        }
    )*};
}

#[tonic::async_trait]
impl Cluster for FakeNode {
    async fn get_placement(
        &self,
        request: Request<GetPlacementRequest>,
    ) -> Result<Response<GetPlacementResponse>, Status> {
        self.enter(&request, "placement").await?;
        let world = self.world.lock();
        if world.cluster_id.is_empty() {
            let message = "start one with init".into();
            return Err(Error::NotInitialized { message }.to_status());
        }
        let node = |(id, addr): (&u64, &String)| Node {
            node_id: *id,
            addr: addr.clone(),
            ..Node::default()
        };
        let shard = |(shard, (first, last, leader)): (&u32, &(u32, u32, u64))| ShardPlacement {
            shard: *shard,
            nodes: world.nodes.keys().copied().collect(),
            slots: vec![SlotRange {
                first: *first,
                last: *last,
            }],
            leader_hint: *world.told_leaders.get(shard).unwrap_or(leader),
        };
        let response = GetPlacementResponse {
            cluster_id: world.cluster_id.clone(),
            version: world.version,
            nodes: world.nodes.iter().map(node).collect(),
            shards: world.shards.iter().map(shard).collect(),
        };
        drop(world);
        Ok(self.answer(response))
    }

    async fn get_status(
        &self,
        request: Request<GetStatusRequest>,
    ) -> Result<Response<GetStatusResponse>, Status> {
        self.enter(&request, "status").await?;
        Ok(self.answer(GetStatusResponse {
            node_id: self.id,
            healthy: true,
            ..GetStatusResponse::default()
        }))
    }

    not_here! {
        list_nodes(ListNodesRequest) -> ListNodesResponse;
        list_shards(ListShardsRequest) -> ListShardsResponse;
        list_workers(ListWorkersRequest) -> ListWorkersResponse;
        init(InitRequest) -> InitResponse;
        create_join_token(CreateJoinTokenRequest) -> CreateJoinTokenResponse;
        join(JoinRequest) -> JoinResponse;
        transfer_leader(TransferLeaderRequest) -> TransferLeaderResponse;
        flush(FlushRequest) -> FlushResponse;
        hash_state(HashStateRequest) -> HashStateResponse;
        scrub(ScrubRequest) -> ScrubResponse;
    }
}

/// Three nodes, each on a runtime of its own, so that killing one cuts its connections.
pub struct FakeCluster {
    pub world: Arc<Mutex<World>>,
    runtimes: BTreeMap<u64, tokio::runtime::Runtime>,
}

impl FakeCluster {
    /// Shard 1 (the lower half of the slots) is led by node 1, shard 2 by node 2.
    pub async fn start() -> FakeCluster {
        let world = Arc::new(Mutex::new(World {
            cluster_id: "the-cluster".into(),
            version: 1,
            hints: true,
            shards: [(1, (0, 0x7fff, 1)), (2, (0x8000, 0xffff, 2))].into(),
            ..World::default()
        }));
        let mut runtimes = BTreeMap::new();
        for id in 1..=3 {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let addr = listener.local_addr().unwrap().to_string();
            world.lock().nodes.insert(id, addr);
            let node = FakeNode {
                id,
                world: world.clone(),
            };
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .enable_all()
                .build()
                .unwrap();
            let listener = listener.into_std().unwrap();
            runtime.spawn(async move {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
                tonic::transport::Server::builder()
                    .add_service(MessagesServer::new(node.clone()))
                    .add_service(AccountsServer::new(node.clone()))
                    .add_service(ClusterServer::new(node))
                    .serve_with_incoming(incoming)
                    .await
                    .unwrap();
            });
            runtimes.insert(id, runtime);
        }
        FakeCluster { world, runtimes }
    }

    pub fn addr(&self, node: u64) -> String {
        self.world.lock().nodes[&node].clone()
    }

    /// Changes a mailbox; answers the new modseq.
    #[allow(dead_code)] // not all tests watch
    pub fn change(&self, account: &AccountName, mailbox: u32) -> u64 {
        let mut world = self.world.lock();
        let changes = world
            .changes
            .entry(account.as_str().to_owned())
            .or_default();
        changes.push(mailbox);
        let modseq = changes.len() as u64;
        world.news.send_modify(|n| *n += 1);
        modseq
    }

    /// Another node leads a shard.
    #[allow(dead_code)] // not all tests watch
    pub fn lead(&self, shard: u32, node: u64) {
        let mut world = self.world.lock();
        world.shards.get_mut(&shard).unwrap().2 = node;
        world.news.send_modify(|n| *n += 1);
    }

    pub fn kill(&mut self, node: u64) {
        if let Some(runtime) = self.runtimes.remove(&node) {
            runtime.shutdown_background();
        }
    }

    /// The first account name of this shard that has this prefix; it is created.
    pub fn account_of(&self, shard: u32, prefix: &str) -> AccountName {
        let mut world = self.world.lock();
        let name = (0..)
            .map(|i| format!("{prefix}{i}@example.org"))
            .find(|n| world.shard_of(n) == shard)
            .unwrap();
        world.mail.insert(name.clone(), Vec::new());
        AccountName::new(&name).unwrap()
    }
}

impl Drop for FakeCluster {
    fn drop(&mut self) {
        for (_, runtime) in std::mem::take(&mut self.runtimes) {
            runtime.shutdown_background();
        }
    }
}
