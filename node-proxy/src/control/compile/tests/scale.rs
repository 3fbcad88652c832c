//! What one route more costs where there are many. Prints figures and holds nobody to them: that is the benchmark's.

use super::*;
use crate::sys::arena::own_net;

/// So many routes.
const ROUTES: usize = 10_000;
/// So many times a route is added and taken away; the median is told.
const TIMES: usize = 51;

/// A mesh whose routes are spread over so many Services, each route of its own path.
fn spread(services: usize) -> Mesh {
    let mut mesh = mesh();
    for number in 0..services {
        let vip = format!("10.97.{}.{}", number / 250, number % 250);
        add_service(&mut mesh, &format!("shop/s{number}"), &vip, AppProtocol::Http1, &["10.0.0.1:8080"]);
    }
    for number in 0..ROUTES {
        add(&mut mesh, number, services);
    }
    mesh
}

fn add(mesh: &mut Mesh, number: usize, services: usize) {
    let service = format!("shop/s{}", number % services);
    let rules = vec![rule(vec![prefix(&format!("/route/{number}"))], vec![backend(&service)])];
    add_route(mesh, &format!("shop/r{number}"), &service, rules);
}

#[test]
#[ignore = "measures, and tests nothing: cargo test --release -p node-proxy --lib scale -- --ignored --nocapture"]
fn one_route_more_of_ten_thousand() {
    let clock = quanta::Clock::new();
    for services in [1, 1_000] {
        let mut mesh = spread(services);
        let mut compiler = Compiler::new();
        let (before, start) = (own_net(), clock.now());
        // As cells do: what was there is let go of when what comes is there.
        let mut kept = vec![compiler.compile(&mesh)];
        let (first, bytes) = (start.elapsed(), (own_net() - before) / ROUTES as i64);
        let mut each = Vec::new();
        for _ in 0..TIMES {
            add(&mut mesh, ROUTES, services);
            let start = clock.now();
            let now = compiler.compile(&mesh);
            each.push(start.elapsed());
            kept = vec![now];
            mesh.routes.retain(|name, _| name.name.as_str() != format!("r{ROUTES}"));
            kept.push(compiler.compile(&mesh));
        }
        each.sort();
        let start = clock.now();
        let service = mesh.services.get_mut(&service_name("shop/s0")).unwrap();
        Arc::make_mut(service).ports[0].endpoints[0].ready = false;
        kept.push(compiler.compile(&mesh));
        let endpoint = start.elapsed();
        let (median, most) = (each[TIMES / 2], each[TIMES - 1]);
        println!(
            "{ROUTES} routes on {services} Services: all {first:?}, one more {median:?}, at most {most:?}, an endpoint \
             of one Service {endpoint:?}; {bytes} bytes of what was compiled for each"
        );
        drop(kept);
    }
}
