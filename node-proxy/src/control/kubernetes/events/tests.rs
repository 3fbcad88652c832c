//! What an API server is told of Events.

use config::finding::ObjectRef;
use serde_json::json;

use super::{
    super::{
        statuses::tests::{Objects, server},
        testing::{Cluster, Faults},
    },
    *,
};

const POD: &str = "/api/v1/namespaces/shop/pods/cart";

fn note(text: &str, uid: Option<&str>) -> Note {
    let object = ObjectRef::new("Pod", Some("shop"), "cart");
    Note {
        regarding: Regarding { object, uid: uid.map(str::to_owned) },
        reason: "NotEnrolled",
        action: "Enrol",
        text: text.to_owned(),
        is_warning: true,
        is_perhaps_known: false,
    }
}

/// Writes these notes, one after the other.
async fn written(objects: &Arc<Objects>, access: &Access, notes: &[Note]) -> Vec<serde_json::Value> {
    let client = access::client(access.find().await.unwrap()).unwrap();
    let reporter = Reporter { controller: "canopy.mesh/node", instance: "n1".to_owned() };
    let (queue, scribe) = Notes::new(Api::new(client, MOST_BYTES), reporter, Arc::default());
    notes.iter().for_each(|note| queue.tell(note.clone()));
    drop(queue);
    scribe.run(Duration::ZERO).await;
    objects.events()
}

#[tokio::test]
async fn what_happens_often_is_one_event_with_a_series_and_of_the_old_pod_of_a_name_no_other() {
    let (objects, access, _directory) = server();
    objects.put(POD, json!({ "metadata": { "uid": "u2" } }));
    let told = |uid| note("waited 3 s", uid);
    let all = [told(Some("u1")), told(Some("u1")), told(Some("u1")), told(None)];
    let events = written(&objects, &access, &all).await;
    let counts: Vec<_> =
        events.iter().map(|event| (&event["regarding"]["uid"], &event["series"]["count"])).collect();
    assert_eq!(counts.len(), 2, "{events:#?}");
    assert!(counts.contains(&(&json!("u1"), &json!(3))), "{counts:?}");
    assert!(counts.contains(&(&json!("u2"), &json!(null))), "the API server says which it is: {counts:?}");
}

#[tokio::test]
async fn of_an_object_that_is_gone_nothing_is_told_and_of_one_object_no_more_than_it_has_room_for() {
    let (objects, access, _directory) = server();
    assert!(written(&objects, &access, &[note("m", None)]).await.is_empty());
    let letter = |number: u8| char::from(b'a' + number).to_string();
    let many: Vec<_> = (0..25).map(|number| note(&letter(number), Some("u1"))).collect();
    assert_eq!(written(&objects, &access, &many).await.len(), 10);
}

#[tokio::test]
async fn who_tells_never_waits_and_what_is_too_much_is_left_out_and_of_no_other_namespace() {
    let (objects, access, _directory) = server();
    let client = access::client(access.find().await.unwrap()).unwrap();
    let reporter = Reporter { controller: "canopy.mesh/node", instance: "n1".to_owned() };
    let left_out = Arc::<LeftOut>::default();
    let (queue, scribe) = Notes::new(Api::new(client, MOST_BYTES), reporter, Arc::clone(&left_out));
    (0..queue::EACH + 3).for_each(|_| queue.tell(note("m", Some("u1"))));
    assert_eq!(left_out.count(Why::Queue), 3);
    assert!(!queue.offer(note("m", Some("u1"))));
    assert_eq!(left_out.count(Why::Queue), 3, "it is told later");
    let object = ObjectRef::new("Pod", Some("bank"), "till");
    let other = Note { regarding: Regarding { object, uid: Some("u2".to_owned()) }, ..note("m", None) };
    queue.tell(other);
    drop(queue);
    scribe.run(Duration::ZERO).await;
    let events = objects.events();
    let mut of: Vec<_> = events.iter().filter_map(|event| event["regarding"]["uid"].as_str()).collect();
    of.sort_unstable();
    assert_eq!(of, ["u1", "u2"]);
    assert_eq!(left_out.count(Why::Object), queue::EACH as u64 - 10);
}

#[tokio::test]
async fn what_the_api_server_does_not_take_is_known_so_that_it_is_told_again() {
    let cluster = Cluster::start(&[]);
    cluster.fail(Faults { status: Some(503), ..Faults::default() });
    let client = access::client(cluster.access().find().await.unwrap()).unwrap();
    let reporter = Reporter { controller: "canopy.mesh/node", instance: "n1".to_owned() };
    let left_out = Arc::<LeftOut>::default();
    let (queue, scribe) = Notes::new(Api::new(client, MOST_BYTES), reporter, Arc::clone(&left_out));
    queue.tell(note("m", Some("u1")));
    assert!(queue.unwritten().is_empty());
    let writing = tokio::spawn(scribe.run(Duration::ZERO));
    let end = Instant::now() + Duration::from_secs(10);
    let unwritten = loop {
        let unwritten = queue.unwritten();
        if !unwritten.is_empty() || Instant::now() > end {
            break unwritten;
        }
        sleep(Duration::from_millis(5)).await;
    };
    assert_eq!(unwritten, [ObjectRef::new("Pod", Some("shop"), "cart")]);
    assert_eq!(left_out.count(Why::Unwritten), 1);
    assert!(queue.unwritten().is_empty(), "it is said once");
    writing.abort();
}
