//! Step 3: one call of each protocol, as the applications make them, and what the daemon logged of it.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use testkit::{
    Daemon, Pod, Tally,
    grpc::{self, Words},
    http,
};

use crate::{
    cast::{CART, Cast, LEDGER, VAULT},
    error::{DemoError, claim},
    evidence,
    screen::Screen,
    stop::Stop,
};

pub(super) fn show(cast: &Cast, daemon: &Daemon, screen: &Screen, stop: &Stop) -> Result<(), DemoError> {
    screen.heading("3. Captured calls: the applications connect as ever and know nothing of it");
    http_calls(cast, daemon, screen, stop)?;
    grpc_call(cast, screen)?;
    redis_call(cast, screen)?;
    for (workload, service) in [("shop/frontend", "bank/ledger"), ("bank/ledger", "bank/vault")] {
        logged(daemon, stop, workload, service, 1)?;
    }
    let log = daemon.access_log();
    if let Some(line) = log.iter().find(|line| evidence::is_call(line, "shop/frontend", "shop/cart")) {
        let fields =
            ["tenant", "workload", "dst.service", "route", "rule", "endpoint", "status", "duration_ms"];
        screen.line("  One line of the access log, in part:");
        screen.quote(&evidence::excerpt(line, &fields));
    }
    Ok(())
}

fn http_calls(cast: &Cast, daemon: &Daemon, screen: &Screen, stop: &Stop) -> Result<(), DemoError> {
    let mut tally = Tally::default();
    for _ in 0..CALLS {
        stop.check()?;
        let answer = http::get(&cast.frontend, CART, "cart.shop", "/")?;
        claim(answer.status == 200, "every request is answered with 200", || {
            format!("{}: {}", answer.status, answer.text())
        })?;
        *tally.answers.entry(answer.text()).or_default() += 1;
    }
    let (v1, v2) = (tally.of("cart-v1"), tally.of("cart-v2"));
    claim(v1 + v2 == CALLS && v1 > v2, "the split 90:10 is kept", || format!("{tally:?}"))?;
    logged(daemon, stop, "shop/frontend", "shop/cart", CALLS)?;
    screen.held(&format!(
        "HTTP/1.1  shop/frontend → http://cart.shop ({CART}): {CALLS} requests, all 200 and all in the \
         daemon's log; cart-v1 {v1}, cart-v2 {v2}, by the route's 90:10"
    ));
    let answer = http::get(&cast.frontend, CART, "cart.shop", "/echo")?;
    let peer =
        answer.text().split_ascii_whitespace().find_map(|word| word.strip_prefix("peer=").map(str::to_owned));
    let peer = peer.unwrap_or_default();
    claim(is_address_of(&cast.frontend, &peer), "the server sees its caller's own address", || {
        answer.text()
    })?;
    screen.held(&format!("          and the server sees its caller's own address, {peer}"));
    Ok(())
}

fn grpc_call(cast: &Cast, screen: &Screen) -> Result<(), DemoError> {
    let words = Words { text: "balance".into(), ..Words::default() };
    let reply = grpc::say(&cast.frontend, LEDGER, "ledger.bank", words)?;
    let peer =
        reply.peer.parse().map(|peer: SocketAddr| peer.ip().to_canonical().to_string()).unwrap_or_default();
    let right = reply.server == "ledger" && reply.text == "balance" && is_address_of(&cast.frontend, &peer);
    claim(right, "a gRPC call is answered by the ledger, which sees the caller's address", || {
        format!("{reply:?}")
    })?;
    screen.held(&format!(
        "gRPC      shop/frontend → ledger.bank ({LEDGER}), from one tenant to the other: answered; it saw {peer}"
    ));
    Ok(())
}

/// The caller has connected over IPv4, so that is what the server has to see.
fn is_address_of(pod: &Pod, address: &str) -> bool {
    address == pod.v4().to_string()
}

/// In Redis' own protocol; the server says `+OK`, then the value with its length before it.
fn redis_call(cast: &Cast, screen: &Screen) -> Result<(), DemoError> {
    let talk = || {
        let mut stream = TcpStream::connect_timeout(&VAULT, LIMIT)?;
        stream.set_read_timeout(Some(LIMIT))?;
        stream.write_all(b"SET gold 12\r\nGET gold\r\nQUIT\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    };
    let answer = cast.ledger.run(talk)?.map_err(DemoError::io("a Redis call from bank/ledger"))?;
    claim(answer == "+OK\r\n$2\r\n12\r\n+OK\r\n", "Redis keeps what it is told", || format!("{answer:?}"))?;
    screen.held(&format!("raw TCP   bank/ledger → vault.bank ({VAULT}): SET and GET in Redis' own protocol"));
    Ok(())
}

/// The log is written when a request or connection ends, a little after its client has seen that.
fn logged(daemon: &Daemon, stop: &Stop, workload: &str, service: &str, wanted: u64) -> Result<(), DemoError> {
    let count = || u64::try_from(evidence::calls(daemon, workload, service)).unwrap_or_default();
    let there = stop.wait_until(LIMIT, || count() >= wanted)?;
    claim(there, format!("{wanted} calls of {workload} to {service} are in the access log"), || {
        let log = daemon.access_log();
        let lately: Vec<String> = log.iter().rev().take(5).map(ToString::to_string).collect();
        format!("{} are; the last lines:\n{}\n{}", count(), lately.join("\n"), daemon.output())
    })
}

const CALLS: u64 = 50;
const LIMIT: Duration = Duration::from_secs(20);
