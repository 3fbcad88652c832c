//! Which connections go where a cell holds too much: those for which most is held, however it came to that; and of those of a size the
//! newest.

use super::*;
use crate::tenancy::memory::Pressure;

/// A connection for which much is held, and what keeps its far end open.
type Large = (TcpStream, Option<TcpStream>);

/// More than a connection ranks alike with that is read and answered.
const MUCH: u64 = 32 * 1024;
const REQUEST: &[u8] = b"POST / HTTP/1.1\r\nhost: web\r\ncontent-length: 100000000\r\n\r\n";
const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 100000000\r\n\r\n";

async fn a_begun_head(world: &World) -> Large {
    let web = world.server(AppProtocol::Http1).await;
    let mut client = world.dial(web.vip).await;
    let head = format!("GET / HTTP/1.1\r\nhost: web\r\nx-much: {}", "x".repeat(50_000));
    client.write_all(head.as_bytes()).await.unwrap();
    (client, None)
}

async fn an_answer_that_is_not_taken(world: &World) -> Large {
    let web = world.server(AppProtocol::Http1).await;
    let mut client = world.dial(web.vip).await;
    client.write_all(b"GET / HTTP/1.1\r\nhost: web\r\n\r\n").await.unwrap();
    let (mut app, _) = web.listener.accept().await.unwrap();
    app.write_all(RESPONSE).await.unwrap();
    fill(&app).await;
    (client, Some(app))
}

async fn a_body_that_does_not_go_on(world: &World) -> Large {
    let web = world.server(AppProtocol::Http1).await;
    let mut client = world.dial(web.vip).await;
    client.write_all(REQUEST).await.unwrap();
    let (app, _) = web.listener.accept().await.unwrap();
    fill(&client).await;
    (client, Some(app))
}

async fn opaque_bytes_that_are_not_taken(world: &World) -> Large {
    let echo = world.server(AppProtocol::Tcp).await;
    let client = world.dial(echo.vip).await;
    let (app, _) = echo.listener.accept().await.unwrap();
    fill(&app).await;
    (client, Some(app))
}

/// Writes until nothing goes any more.
async fn fill(stream: &TcpStream) {
    let mut quiet = 0;
    while quiet < 50 {
        match stream.try_write(&[7; 64 * 1024]) {
            Ok(_) => quiet = 0,
            Err(_full) => {
                quiet += 1;
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    }
}

fn most(world: &World) -> u64 {
    let mut most = 0;
    world.cell.live.each(|live| most = most.max(live.held()));
    most
}

async fn ends_first(make: impl AsyncFn(&World) -> Large) {
    let world = World::new();
    let (mut large, _app) = make(&world).await;
    for _ in 0..2_000 {
        if most(&world) < MUCH {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    assert!(most(&world) >= MUCH, "{} bytes are known of", most(&world));
    let mut backlog = 0;
    world.cell.live.each(|live| backlog = backlog.max(live.backlog.held()));
    assert!(backlog > 0, "what came through the relay's hands is known of, too");
    let echo = world.server(AppProtocol::Tcp).await;
    let mut small = Vec::new();
    for _ in 0..3 {
        let client = world.dial(echo.vip).await;
        small.push((client, echo.listener.accept().await.unwrap().0));
    }
    for (client, app) in &mut small {
        flows(client, app).await;
    }
    world.cell.press(Pressure::Hard);
    world.emptied_but(3).await;
    for (client, app) in &mut small {
        flows(client, app).await;
    }
    assert!(world.cell.ledger.refusals(Reason::MemoryShed) > 0);
    assert!(most(&world) < MUCH, "{}", most(&world));
    let mut rest = Vec::new();
    drop(large.read_to_end(&mut rest).await);
}

#[test]
fn a_connection_for_which_much_is_held_ends_before_newer_ones_for_which_little_is() {
    on_a_cell(async {
        ends_first(a_begun_head).await;
        ends_first(an_answer_that_is_not_taken).await;
        ends_first(a_body_that_does_not_go_on).await;
        ends_first(opaque_bytes_that_are_not_taken).await;
    });
}
