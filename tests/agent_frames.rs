//! Do frames cross a socket whole, and does nothing that a hostile peer sends hurt or leak a descriptor?

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a failed expectation is the failure of the test"
)]

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{IoSlice, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream as StdStream;
use std::path::Path;
use std::time::Duration;

use mountpod::agent::connect::{ConnectError, connect};
use mountpod::agent::frames::{
    ClientLaunch, ClientState, FRAME_BYTES_MAX, FRAME_FDS_MAX, FRAME_VERSION, FromAgent, Negotiated, Offer,
    ToAgent,
};
use mountpod::agent::messages::{Request, Word};
use mountpod::agent::wire::{FrameReader, FrameWriter, WireError, halves};
use mountpod::volume::{ClientKind, SessionId};
use nix::sys::socket::{ControlMessage, MsgFlags, UnixAddr, sendmsg};
use nix::sys::stat::fstat;
use tokio::net::UnixStream;
use tokio::sync::Mutex;

/// Tests of one process share its descriptor table: those that count take turns with those that open.
static TABLE: Mutex<()> = Mutex::const_new(());
const SEED: u64 = 0x6d6f_756e_7470_6f64;
const FUZZ_ROUNDS: usize = 3000;

fn session() -> SessionId {
    "0123456789abcdef0123456789abcdef".parse().unwrap()
}

fn negotiated() -> Negotiated {
    Negotiated { minor: 45, flags: u64::MAX, max_readahead: 131_072, max_write: 1 << 20, max_pages: 256 }
}

fn offer(credentials: &[(&str, &str)]) -> ToAgent {
    let client =
        ClientLaunch { kind: ClientKind::Hostdir, subdirectory: String::new(), options: BTreeMap::new() };
    let credentials =
        credentials.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    ToAgent::Offer(Box::new(Offer { session: session(), client, negotiated: negotiated(), credentials }))
}

/// Descriptors of the device that every hostile frame carries. Others come and go with the tests' own runtimes.
fn open_fds() -> usize {
    let fds = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
    fds.filter(|fd| std::fs::read_link(fd.path()).is_ok_and(|file| file == Path::new("/dev/null"))).count()
}

fn device(name: &str) -> File {
    File::open(format!("/dev/{name}")).unwrap()
}

fn pair() -> (FrameReader<Request>, FrameWriter<FromAgent>, FrameReader<Word>, FrameWriter<ToAgent>) {
    let (agent, driver) = UnixStream::pair().unwrap();
    let (requests, words_out) = halves(agent);
    let (words_in, orders) = halves(driver);
    (requests, words_out, words_in, orders)
}

/// A raw peer of a reader of requests.
fn raw_pair() -> (FrameReader<Request>, StdStream) {
    let (agent, driver) = StdStream::pair().unwrap();
    agent.set_nonblocking(true).unwrap();
    let (requests, _) = halves::<Request, FromAgent>(UnixStream::from_std(agent).unwrap());
    (requests, driver)
}

fn send_raw(to: &StdStream, bytes: &[u8], fds: &[i32]) {
    let rights = [ControlMessage::ScmRights(fds)];
    let control = if fds.is_empty() { &[] } else { rights.as_slice() };
    let sent =
        sendmsg::<UnixAddr>(to.as_raw_fd(), &[IoSlice::new(bytes)], control, MsgFlags::MSG_NOSIGNAL, None);
    assert_eq!(sent.unwrap(), bytes.len());
}

fn frame(json: &str) -> Vec<u8> {
    let mut frame = u32::try_from(json.len()).unwrap().to_le_bytes().to_vec();
    frame.extend_from_slice(json.as_bytes());
    frame
}

#[tokio::test]
async fn an_offer_arrives_with_its_descriptors_in_order() {
    let _turn = TABLE.lock().await;
    let (mut requests, _words, _in, mut orders) = pair();
    let (null, zero, full) = (device("null"), device("zero"), device("full"));
    // Larger than a socket buffer, so that it is sent and received in parts.
    let bulk = "x".repeat(FRAME_BYTES_MAX - 1000);
    let message = offer(&[("key", &bulk)]);
    let fds = [null.as_fd(), zero.as_fd(), full.as_fd()];
    let (sent, received) = tokio::join!(orders.send(&message, &fds), requests.next());
    sent.unwrap();
    let Some(Request::Offer(got, got_fds)) = received.unwrap() else { panic!("no offer") };
    assert_eq!(got.session, session());
    assert_eq!(got.negotiated, negotiated());
    assert_eq!(got.credentials["key"], bulk);
    let tree = got_fds.tree.unwrap();
    for (mine, theirs) in [(&null, &got_fds.session.fuse), (&zero, &got_fds.session.state), (&full, &tree)] {
        assert_eq!(fstat(mine).unwrap().st_rdev, fstat(theirs).unwrap().st_rdev);
        let flags = nix::fcntl::fcntl(theirs, nix::fcntl::FcntlArg::F_GETFD).unwrap();
        assert_eq!(flags & 1, 1, "received descriptors are close-on-exec");
    }
    drop(orders);
    drop(_in);
    assert!(requests.next().await.unwrap().is_none(), "the end of the connection is no error");
}

#[tokio::test]
async fn words_own_their_descriptors() {
    let _turn = TABLE.lock().await;
    let (_requests, mut words, mut inbound, _orders) = pair();
    let (null, zero) = (device("null"), device("zero"));
    let serving = ClientState::Serving { starts: 2, pid: 7 };
    let holding = |client| FromAgent::Holding { session: session(), client, negotiated: negotiated() };
    words.send(&holding(ClientState::Ended), &[null.as_fd(), zero.as_fd()]).await.unwrap();
    let all = [null.as_fd(), zero.as_fd(), null.as_fd()];
    words.send(&holding(serving.clone()), &all).await.unwrap();
    words.send(&FromAgent::Idle, &[]).await.unwrap();
    assert!(matches!(inbound.next().await.unwrap(), Some(Word::Holding { pidfd: None, .. })));
    assert!(matches!(inbound.next().await.unwrap(), Some(Word::Holding { pidfd: Some(_), .. })));
    assert!(matches!(inbound.next().await.unwrap(), Some(Word::Idle)));
    let refused = words.send(&holding(serving), &[null.as_fd()]).await.unwrap_err();
    assert!(matches!(refused, WireError::WrongFds { message: "holding", got: 1, .. }), "{refused}");
    words
        .send(&FromAgent::Idle, &[])
        .await
        .expect("a message that is refused before it is sent breaks nothing");
}

#[tokio::test]
async fn malformed_frames_are_typed_errors_and_leak_nothing() {
    let _turn = TABLE.lock().await;
    let null = device("null");
    let fd = null.as_raw_fd();
    let long = u32::try_from(FRAME_BYTES_MAX + 1).unwrap().to_le_bytes();
    let offer_json = serde_json::to_string(&offer(&[])).unwrap();
    let adopt = frame(r#"{"type":"adopt"}"#);
    type Check = fn(&WireError) -> bool;
    let cases: Vec<(&str, Vec<u8>, usize, Check)> = vec![
        ("too long", long.to_vec(), 0, |e| matches!(e, WireError::Length { .. })),
        ("empty", vec![0; 4], 0, |e| matches!(e, WireError::Length { bytes: 0 })),
        ("cut header", vec![9, 0], 1, |e| matches!(e, WireError::CutOff)),
        ("cut body", adopt[..9].to_vec(), 2, |e| matches!(e, WireError::CutOff)),
        ("no JSON", frame("nonsense"), 3, |e| matches!(e, WireError::Message(_))),
        ("unknown type", frame(r#"{"type":"launch"}"#), 1, |e| matches!(e, WireError::Message(_))),
        ("offer without its descriptors", frame(&offer_json), 0, |e| {
            matches!(e, WireError::WrongFds { got: 0, .. })
        }),
        ("offer with one too few", frame(&offer_json), 2, |e| {
            matches!(e, WireError::WrongFds { got: 2, .. })
        }),
        ("offer with one too many", frame(&offer_json), 4, |e| {
            matches!(e, WireError::WrongFds { got: 4, .. })
        }),
        ("adopt with a descriptor", adopt.clone(), 1, |e| matches!(e, WireError::WrongFds { got: 1, .. })),
        ("more than any may have", adopt.clone(), FRAME_FDS_MAX + 1, |e| {
            matches!(e, WireError::TooManyFds { got: 5 })
        }),
        ("as many as the kernel takes", adopt, 253, |e| matches!(e, WireError::TooManyFds { got: 253 })),
    ];
    for (what, bytes, fds, expected) in cases {
        let before = open_fds();
        let (mut requests, peer) = raw_pair();
        send_raw(&peer, &bytes, &vec![fd; fds]);
        drop(peer);
        let error = requests.next().await.expect_err(what);
        assert!(expected(&error), "{what}: {error:?}");
        assert!(matches!(requests.next().await, Err(WireError::Broken)), "{what}: nothing follows an error");
        drop(requests);
        assert_eq!(open_fds(), before, "{what}: a descriptor leaked");
    }
}

#[tokio::test]
async fn descriptors_in_the_middle_of_a_frame_are_refused() {
    let _turn = TABLE.lock().await;
    let null = device("null");
    let before = open_fds();
    let (mut requests, peer) = raw_pair();
    let bytes = frame(r#"{"type":"adopt"}"#);
    send_raw(&peer, &bytes[..6], &[]);
    send_raw(&peer, &bytes[6..], &[null.as_raw_fd()]);
    assert!(matches!(requests.next().await, Err(WireError::StrayFds)));
    drop((requests, peer));
    assert_eq!(open_fds(), before);
}

#[tokio::test]
async fn frames_in_one_piece_or_byte_by_byte_are_the_same() {
    let _turn = TABLE.lock().await;
    let (mut requests, mut peer) = raw_pair();
    let both = [frame(r#"{"type":"adopt"}"#), frame(r#"{"type":"status"}"#)].concat();
    peer.write_all(&both).unwrap();
    assert!(matches!(requests.next().await.unwrap(), Some(Request::Adopt)));
    assert!(matches!(requests.next().await.unwrap(), Some(Request::Status)));
    for byte in &both {
        // Given up after each byte: what came in stays in the reader.
        let early = tokio::time::timeout(Duration::ZERO, requests.next()).await;
        assert!(early.is_err() || matches!(early, Ok(Ok(Some(Request::Adopt)))));
        peer.write_all(&[*byte]).unwrap();
    }
    assert!(matches!(requests.next().await.unwrap(), Some(Request::Status)));
}

#[tokio::test(start_paused = true)]
async fn a_frame_that_does_not_end_is_given_up() {
    let _turn = TABLE.lock().await;
    let (mut requests, mut peer) = raw_pair();
    peer.write_all(&[200, 0]).unwrap();
    assert!(matches!(requests.next().await, Err(WireError::TooSlow(_))));
}

/// xorshift64*: seeded, so that a failure comes again.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(limit).unwrap()).unwrap()
    }
}

#[tokio::test]
async fn random_and_mutated_bytes_never_panic_and_leak_nothing() {
    let _turn = TABLE.lock().await;
    let null = device("null");
    let good = [
        frame(r#"{"type":"adopt"}"#),
        frame(r#"{"type":"stop"}"#),
        frame(&serde_json::to_string(&offer(&[("a", "b")])).unwrap()),
    ];
    let before = open_fds();
    let mut random = Random(SEED);
    let (mut accepted, mut refused) = (0, 0);
    for round in 0..FUZZ_ROUNDS {
        let mut bytes: Vec<u8> = good[random.below(good.len())].clone();
        match random.below(4) {
            0 => bytes = (0..=random.below(64)).map(|_| random.next().to_le_bytes()[0]).collect(),
            1 => bytes.truncate(1 + random.below(bytes.len())),
            2 => {
                let at = random.below(bytes.len());
                bytes[at] = random.next().to_le_bytes()[0];
            }
            _ => bytes.extend_from_slice(&good[random.below(good.len())]),
        }
        let (mut requests, peer) = raw_pair();
        let cut = 1 + random.below(bytes.len());
        send_raw(&peer, &bytes[..cut], &vec![null.as_raw_fd(); random.below(FRAME_FDS_MAX + 3)]);
        if cut < bytes.len() {
            send_raw(&peer, &bytes[cut..], &vec![null.as_raw_fd(); random.below(20) / 19]);
        }
        drop(peer);
        loop {
            match requests.next().await {
                Ok(Some(_)) => accepted += 1,
                Ok(None) => break,
                Err(_) => {
                    refused += 1;
                    break;
                }
            }
        }
        drop(requests);
        assert_eq!(open_fds(), before, "round {round} of seed {SEED:#x} leaked a descriptor");
    }
    assert!(accepted > 100 && refused > 100, "both ways were taken: {accepted} accepted, {refused} refused");
}

#[tokio::test]
async fn connecting_refuses_what_is_no_socket_and_takes_long_paths() {
    let _turn = TABLE.lock().await;
    let dir = tempfile::tempdir().unwrap();
    let limit = Duration::from_secs(5);
    let deep = dir.path().join("d".repeat(100)).join("e".repeat(100));
    std::fs::create_dir_all(&deep).unwrap();
    let listener = std::os::unix::net::UnixListener::bind(dir.path().join("a.sock")).unwrap();
    std::fs::rename(dir.path().join("a.sock"), deep.join("a.sock")).unwrap();
    let answer = std::thread::spawn(move || {
        let hello =
            |version| frame(&format!(r#"{{"type":"hello","version":{version},"program":"stand-in"}}"#));
        for bytes in [hello(FRAME_VERSION), hello(FRAME_VERSION + 1), frame(r#"{"type":"idle"}"#), vec![]] {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(&bytes).unwrap();
        }
    });
    let path = deep.join("a.sock");
    connect(&path, limit).await.expect("a path of more than 200 bytes");
    assert!(matches!(connect(&path, limit).await, Err(ConnectError::Version { .. })));
    assert!(matches!(connect(&path, limit).await, Err(ConnectError::NoHello(_))));
    assert!(matches!(connect(&path, limit).await, Err(ConnectError::NoHello(_))));
    answer.join().unwrap();
    assert!(
        matches!(connect(&path, limit).await, Err(ConnectError::Connect { .. })),
        "nobody listens any more"
    );
    std::os::unix::fs::symlink(&path, dir.path().join("link.sock")).unwrap();
    assert!(matches!(connect(&dir.path().join("link.sock"), limit).await, Err(ConnectError::NotASocket(_))));
    std::fs::write(dir.path().join("file.sock"), "").unwrap();
    assert!(matches!(connect(&dir.path().join("file.sock"), limit).await, Err(ConnectError::NotASocket(_))));
    assert!(matches!(connect(&dir.path().join("none.sock"), limit).await, Err(ConnectError::Open { .. })));
}
