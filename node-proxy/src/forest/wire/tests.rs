//! Frames come out as they went in; anything else is one error, never a panic.

use std::os::{fd::AsFd, unix::net::UnixStream};

use config::{
    identity::{Identity, TrustDomain},
    name::{Namespace, PodName, TenantId},
};
use proptest::prelude::*;

use super::*;
use crate::{
    cell::Limits,
    forest::describe::{CertificateDescription, ConnectionDescription, ListenerDescription, TreeDescription},
    identity::authority::remote::Terms,
    snapshot::Source,
};
use config::model::Workload;

fn pod() -> PodName {
    PodName::new("shop".try_into().unwrap(), "cart".try_into().unwrap())
}

fn workload() -> Workload {
    let namespace = Namespace::try_from("shop").unwrap();
    let identity = Identity {
        trust_domain: TrustDomain::default(),
        namespace: namespace.clone(),
        service_account: "default".try_into().unwrap(),
    };
    let mut workload = Workload::new(pod(), TenantId::Namespace(namespace), identity);
    workload.addresses.push([10, 0, 0, 7].into());
    workload.netns = Some("/run/netns/cart".into());
    workload
}

fn source(pods: u16) -> Source {
    let mut source = Source::default();
    source.mesh.version = 7;
    for number in 0..pods {
        let name = format!("cart-{number}");
        let pod = PodName::new("shop".try_into().unwrap(), (*name).try_into().unwrap());
        let workload = Workload { pod: pod.clone(), ..workload() };
        source.mesh.workloads.insert(pod, workload.into());
    }
    source
}

fn begin(pods: u16) -> Told {
    Told::Begin(Box::new(Begin {
        tenant: TenantId::Tenant("shop".try_into().unwrap()),
        limits: Limits::default(),
        site: crate::hbone::Site::default(),
        counts: vec![1, u64::MAX],
        source: source(pods),
        steering: vec![1, 2],
        logs: true,
        finds: true,
        terms: Some(Terms { authority: "embedded".to_owned(), signs: true }),
    }))
}

/// One of each.
fn all() -> Vec<Told> {
    let grace = std::time::Duration::from_millis(1234);
    let (pod, tree) = (pod(), 9);
    vec![
        begin(1),
        Told::Plant {
            workload: Box::new(workload()),
            tree,
            listeners: vec![(true, ([127, 0, 0, 1], 4000).into()), (false, ([127, 0, 0, 1], 4001).into())],
            counts: vec![5, 6],
        },
        Told::Uproot { pod: pod.clone(), tree, grace },
        Told::Board {
            version: 3,
            lines: vec![LineTold { workload: workload(), tree, cell: 2 }],
            absent: [pod].into(),
        },
        Told::Certificates(vec![3; 400]),
        Told::Swap(Box::new(source(2))),
        Told::Found { address: [10, 0, 0, 7].into(), is_known: Some(true) },
        Told::Share(65_536),
        Told::Describe { number: 4 },
        Told::Unlisten { tree, grace },
        Told::Finish,
        Told::Drain { grace },
    ]
}

#[test]
fn every_frame_to_a_cell_comes_out_as_it_went_in() {
    for frame in all() {
        assert_eq!(decode::<Told>(&encode(&frame)).unwrap(), frame);
    }
}

#[test]
fn the_set_of_frames_is_the_one_of_its_version() {
    let code = [include_str!("to_cell.rs"), include_str!("from_cell.rs")];
    let lines = code.iter().flat_map(|file| file.lines()).map(str::trim);
    let words =
        lines.filter(|line| !line.starts_with("//")).flat_map(str::split_whitespace).flat_map(str::bytes);
    let sum = packets::fingerprint(words);
    assert_eq!(
        (VERSION, sum),
        (5, 196_520_737),
        "count up the version, and write down the sum of the new set"
    );
}

fn said() -> [Said; 5] {
    let identity = workload().identity;
    let address = ([127, 0, 0, 1], 4000).into();
    let connection = ConnectionDescription {
        side: "inbound".to_owned(),
        client: address,
        destination: address,
        service: Some("shop/web:80".to_owned()),
        protocol: "h2".to_owned(),
        age_ms: 5,
        requests: 6,
    };
    let tree = TreeDescription {
        pod: pod(),
        identity,
        certificate: Some(CertificateDescription { serial: Some("01".to_owned()), ..Default::default() }),
        listeners: vec![ListenerDescription { side: "inbound".to_owned(), address }],
        connections: vec![connection],
        connections_open: 1,
    };
    let rows = Said::Rows(vec![RowTold { tree: 9, words: vec![7; 3] }]);
    let answer = |tree| Said::Described { number: 4, tree };
    [
        answer(Some(Box::new(tree))),
        answer(None),
        Said::Certificates(vec![3; 4]),
        Said::Find([10, 0, 0, 7].into()),
        rows,
    ]
}

#[test]
fn the_bytes_of_frames_and_the_words_of_a_ledger_are_those_of_their_version() {
    // What a frame carries is written down elsewhere, too: a field more anywhere in it shows here.
    let frames = all().iter().map(encode).chain(said().iter().map(encode)).collect::<Vec<_>>();
    let sum = packets::fingerprint(frames.concat());
    let words = crate::tenancy::Ledger::default().words().len();
    assert_eq!(
        (VERSION, sum, words),
        (5, 1_792_381_983, 94),
        "count up the version, and write down the new sums"
    );
}

#[test]
fn another_version_a_foreign_row_and_a_broken_one_are_told_apart() {
    let whole = encode(&Told::Finish);
    let mut other = whole.clone();
    other[4] = 9;
    let error = decode::<Told>(&other).unwrap_err();
    assert!(matches!(error, WireError::Version(9)) && error.to_string().contains("one build of canopy"));
    assert!(matches!(decode::<Told>(b"GET / HTTP/1.1"), Err(WireError::Foreign)));
    assert!(matches!(decode::<Told>(&whole[..6]), Err(WireError::Foreign)));
    assert!(matches!(decode::<Told>(&whole[..7]), Err(WireError::Broken)));
    let longer = [&*whole, &[0]].concat();
    assert!(matches!(decode::<Told>(&longer), Err(WireError::Broken)), "nothing follows a frame");
    let mut beside = header(Place::Beside);
    assert!(matches!(decode::<Told>(&beside), Err(WireError::Descriptors { .. })));
    beside[6] = 2;
    assert!(matches!(decode::<Told>(&beside), Err(WireError::Broken)));
}

fn ends() -> (Packets, Packets) {
    let (one, other) = packets::pair().unwrap();
    (Packets::new(one).unwrap(), Packets::new(other).unwrap())
}

#[tokio::test]
async fn a_frame_too_long_for_a_packet_comes_whole_and_its_descriptors_stay_in_order() {
    let (one, other) = ends();
    let (near, far) = UnixStream::pair().unwrap();
    for pods in [1, 1000] {
        let frame = begin(pods);
        send(&one, &frame, &[near.as_fd(), far.as_fd()]).await.unwrap();
        let (came, descriptors): (Told, _) = receive(&other, MOST_TOLD).await.unwrap().unwrap();
        assert!(came == frame && descriptors.len() == 2, "{pods}: {}", descriptors.len());
        assert_eq!(encode(&frame).len() > packets::BYTES, pods == 1000);
    }
    send(&one, &begin(1000), &[]).await.unwrap();
    let error = receive::<Told>(&other, 1000).await.unwrap_err();
    assert!(matches!(error, WireError::Carriage(_)), "longer than the reader takes: {error:?}");
    drop(one);
    assert!(receive::<Told>(&other, 1000).await.unwrap().is_none());
}

#[tokio::test]
async fn what_is_said_to_be_beside_and_is_not_or_can_change_is_not_read() {
    let (one, other) = ends();
    one.send(&header(Place::Beside), &[]).await.unwrap();
    let error = receive::<Said>(&other, MOST_SAID).await.unwrap_err();
    assert!(matches!(error, WireError::Descriptors { got: 0, wanted: 1 }), "{error:?}");
    let open = std::fs::File::open("/dev/zero").unwrap();
    one.send(&header(Place::Beside), &[open.as_fd()]).await.unwrap();
    assert!(matches!(receive::<Said>(&other, MOST_SAID).await, Err(WireError::Carriage(_))));
    one.send(&header(Place::Beside), &[packets::sealed(b"x").unwrap().as_fd()]).await.unwrap();
    let error = receive::<Said>(&other, MOST_SAID).await.unwrap_err();
    assert!(matches!(error, WireError::Carriage(_)), "a cell says nothing beside a packet: {error:?}");
}

#[test]
fn a_planting_has_a_namespace_a_presence_and_its_listeners_or_is_none() {
    let some = |count| {
        (0..count).map(|_| std::fs::File::open("/dev/null").unwrap().into()).collect::<Vec<OwnedFd>>()
    };
    assert_eq!(Ends::of(some(4), 2).unwrap().listeners.len(), 2);
    for count in [0, 1, 3, 5] {
        assert!(matches!(Ends::of(some(count), 2), Err(WireError::Descriptors { wanted: 4, .. })), "{count}");
    }
}

proptest! {
    #[test]
    fn whatever_comes_is_a_frame_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        let _ = decode::<Said>(&bytes);
        let framed = [header(Place::Here), bytes].concat();
        let _ = (decode::<Said>(&framed), decode::<Told>(&framed));
    }

    #[test]
    fn a_frame_with_a_byte_changed_is_a_frame_or_an_error(which in 0..12_usize, at in any::<usize>(), to in any::<u8>()) {
        let mut bytes = encode(&all()[which]);
        let at = at % bytes.len();
        bytes[at] = to;
        let _ = decode::<Told>(&bytes);
    }
}
