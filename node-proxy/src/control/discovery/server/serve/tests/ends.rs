//! How streams end: late, or with their server.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_stream_that_asks_nothing_and_one_that_answers_nothing_end_in_time() {
    let plane = Plane::start(&[("a", &namespace("shop", "one"))]).await;
    let begin = Instant::now();
    let mut silent = plane.client().await;
    assert_eq!(silent.end_within(1000).await.code(), tonic::Code::DeadlineExceeded);
    assert!(
        (Duration::from_secs(10)..Duration::from_secs(11)).contains(&begin.elapsed()),
        "{:?}",
        begin.elapsed()
    );
    let mut mute = plane.client().await;
    let begin = Instant::now();
    mute.ask(Kind::Namespace, &[]).await;
    assert_eq!(mute.hears.message().await.unwrap().unwrap().resources.len(), 1);
    let end = mute.end_within(1000).await;
    assert!(end.message().contains("not answered"), "{end}");
    assert!(
        (Duration::from_secs(120)..Duration::from_secs(121)).contains(&begin.elapsed()),
        "{:?}",
        begin.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn a_node_that_asks_on_and_on_and_answers_nothing_is_ended_all_the_same() {
    let plane = Plane::start(&[("a", &namespace("shop", "one"))]).await;
    let mut mute = plane.client().await;
    mute.ask(Kind::Address, &["*"]).await;
    mute.hear().await;
    let begin = Instant::now();
    let end = loop {
        // It is a request, with a nonce of nothing that was sent.
        let again = Request { nonce: "none".to_owned(), ..of(Kind::Address) };
        let asked = Request { subscribe: vec!["/10.0.0.1".to_owned()], ..again };
        if mute.says.send(asked).await.is_err() {
            break mute.end().await;
        }
        sleep(Duration::from_secs(10)).await;
        assert!(begin.elapsed() < Duration::from_secs(200), "it is kept");
    };
    assert!(end.message().contains("not answered"), "{end}");
    assert!(begin.elapsed() >= Duration::from_secs(115), "{:?}", begin.elapsed());
}

#[tokio::test]
async fn a_server_that_takes_its_leave_lets_nobody_in_and_ends_every_stream_without_an_error() {
    let plane = Plane::start(&[("a", &namespace("shop", "one"))]).await;
    let mut nodes = Vec::new();
    for _ in 0..8 {
        let mut node = plane.client().await;
        node.ask(Kind::Namespace, &[]).await;
        node.hear_names().await;
        nodes.push(node);
    }
    let Listen::Unix(path) = &plane.at[0] else { panic!() };
    let begin = Instant::now();
    plane.stop.notify_one();
    timeout(SOON, async {
        while path.exists() {
            sleep(Duration::from_millis(1)).await;
        }
    })
    .await
    .expect("nobody is let in any more");
    for mut node in nodes {
        let end = timeout(SOON, node.hears.message()).await.expect("an end");
        assert!(end.is_ok_and(|last| last.is_none()), "it comes back at once, as there was no error");
    }
    assert!(begin.elapsed() < Duration::from_secs(4), "{:?}", begin.elapsed());
    let mut plane = plane;
    timeout(SOON, &mut plane.task).await.expect("it has ended").unwrap();
}

#[tokio::test]
async fn a_server_that_ends_ends_its_streams_and_takes_its_socket_away() {
    let plane = Plane::start(&[("a", &namespace("shop", "one"))]).await;
    let mut node = plane.client().await;
    node.ask(Kind::Namespace, &[]).await;
    node.hear().await;
    plane.task.abort();
    assert!(timeout(SOON, node.hears.message()).await.expect("an end").is_err());
    plane.streams_become(0).await;
    let Listen::Unix(path) = &plane.at[0] else { panic!() };
    assert!(!path.exists());
}
