//! What a change costs in a large mesh. Ignored, since it measures and decides nothing; it must never assert on time.
//!
//! `cargo test --release -p config --test scale -- --ignored --nocapture --test-threads 1`

#![expect(clippy::print_stdout, clippy::disallowed_types, reason = "it measures by the clock, and tells")]

use std::{
    collections::BTreeMap,
    fmt::Write,
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use config::{
    Limits,
    store::{FileText, Options, Outcome, Store},
};

/// Files, and the text of each.
type Files = BTreeMap<PathBuf, FileText>;

/// How large a mesh is.
#[derive(Clone, Copy)]
struct Size {
    namespaces: usize,
    services: usize,
    endpoints: usize,
    files: usize,
}

fn service(out: &mut String, namespace: usize, number: usize) {
    let (high, low) = (number / 250, number % 250 + 1);
    let vip = format!("10.{}.{}.{low}", 96 + high / 250, high % 250);
    let _ = writeln!(
        out,
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: s-{number}, namespace: n-{namespace}}}\n\
         spec: {{clusterIP: {vip}, ports: [{{name: http, port: 80, targetPort: 8080}}]}}"
    );
}

fn slice(out: &mut String, (namespace, number): (usize, usize), endpoints: usize, ready: bool) {
    let _ = writeln!(
        out,
        "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
         metadata: {{name: s-{number}, namespace: n-{namespace}, labels: {{kubernetes.io/service-name: s-{number}}}}}\n\
         addressType: IPv4\nports: [{{name: http, port: 8080}}]\nendpoints:"
    );
    for endpoint in 0..endpoints {
        let index = number * endpoints + endpoint;
        let (a, b, c) = (index / 62_500, index / 250 % 250, index % 250 + 1);
        let ready = ready || endpoint > 0;
        let _ = writeln!(out, "- {{addresses: [172.{a}.{b}.{c}], conditions: {{ready: {ready}}}}}");
    }
}

/// One of the files: its share of all Services, each with its slice.
fn part(size: Size, file: usize, changed: Option<usize>) -> String {
    let mut out = String::new();
    for number in (0..size.services).filter(|number| number % size.files == file) {
        let namespace = number % size.namespaces;
        service(&mut out, namespace, number);
        slice(&mut out, (namespace, number), size.endpoints, changed != Some(number));
    }
    out
}

fn mesh(size: Size) -> Files {
    let mut namespaces = String::new();
    for namespace in 0..size.namespaces {
        let _ =
            writeln!(namespaces, "---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: n-{namespace}}}");
    }
    let parts = (0..size.files).map(|file| (path(file), text(part(size, file, None))));
    parts.chain([(PathBuf::from("namespaces.yaml"), text(namespaces))]).collect()
}

fn path(file: usize) -> PathBuf {
    PathBuf::from(format!("part-{file:05}.yaml"))
}

fn text(text: String) -> FileText {
    FileText::from(text.into_bytes())
}

fn route(number: usize) -> String {
    format!(
        "---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: r-{number}, namespace: n-0}}\n\
         spec: {{parentRefs: [{{group: '', kind: Service, name: s-0}}], rules: [{{matches: [{{path: {{type: PathPrefix, \
         value: /p-{number}}}}}], backendRefs: [{{name: s-0, port: 80}}]}}]}}\n"
    )
}

/// Memory of this process now, and the most it ever was, in MiB.
fn memory() -> (u64, u64) {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let of = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().split(' ').next()?.parse::<u64>().ok()
    };
    (of("VmRSS:").unwrap_or_default() / 1024, of("VmHWM:").unwrap_or_default() / 1024)
}

fn timed(store: &mut Store, files: &Files) -> (Outcome, Duration) {
    let start = Instant::now();
    let outcome = store.apply(files);
    (outcome, start.elapsed())
}

fn tell(what: &str, outcome: &Outcome, took: Duration) {
    let (now, most) = memory();
    println!(
        "{what}: {took:.2?}; {} accepted, {} findings, {} changes; {now} MiB, at most {most} MiB",
        outcome.accepted,
        outcome.findings.len(),
        outcome.changes.services.len() + outcome.changes.routes.len(),
    );
}

/// Edits, each the next text of one file, and how long each of them took.
fn edits(store: &mut Store, files: &mut Files, what: &str, edit: impl Fn(usize) -> (PathBuf, String)) {
    let mut last = None;
    for round in 0..6 {
        let (path, new) = edit(round);
        files.insert(path, text(new));
        let (outcome, took) = timed(store, files);
        tell(&format!("  {what} {round}"), &outcome, took);
        last = Some(outcome);
    }
    let (outcome, took) = timed(store, files);
    tell("  nothing new", &outcome, took);
    drop(last);
}

fn routes(count: usize, per_file: usize) {
    let mut files = mesh(Size { namespaces: 1, services: 1, endpoints: 2, files: 1 });
    for file in 0..count / per_file {
        let texts: String = (file * per_file..(file + 1) * per_file).map(route).collect();
        files.insert(PathBuf::from(format!("routes-{file:05}.yaml")), text(texts));
    }
    let mut store = Store::new(Options::default());
    let (outcome, took) = timed(&mut store, &files);
    tell(&format!("{count} routes, {per_file} a file"), &outcome, took);
    drop(outcome);
    edits(&mut store, &mut files, "one more route", |round| {
        (PathBuf::from(format!("new-{round}.yaml")), route(count + round))
    });
}

fn endpoints(size: Size) {
    let mut files = mesh(size);
    let bytes: usize =
        files.values().map(|text| if let FileText::Bytes(bytes) = text { bytes.len() } else { 0 }).sum();
    println!("{} MiB of text; {:?} MiB before", bytes >> 20, memory());
    let limits = Limits { objects: 200_000, ..Limits::default() };
    let mut store = Store::new(Options { limits, ..Options::default() });
    let (outcome, took) = timed(&mut store, &files);
    let Size { services, endpoints, files: parts, .. } = size;
    tell(&format!("{services} Services of {endpoints} endpoints in {parts} files"), &outcome, took);
    drop(outcome);
    edits(&mut store, &mut files, "one endpoint", |round| {
        let file = round / 2;
        (path(file), part(size, file, (round % 2 == 0).then_some(file)))
    });
    edits(&mut store, &mut files, "one slice in a file of its own", |round| {
        let mut out = String::new();
        let number = size.services + round / 2;
        slice(&mut out, (number % size.namespaces, number), size.endpoints, round % 2 == 0);
        // A second one of a Service that has one.
        let of = number - size.services;
        (
            path(99_000 + of),
            out.replace(&format!("service-name: s-{number}"), &format!("service-name: s-{of}")),
        )
    });
}

#[test]
#[ignore = "measures"]
fn a_route_more_among_ten_thousand() {
    routes(10_000, 1);
    routes(10_000, 1_000);
}

#[test]
#[ignore = "measures"]
fn an_endpoint_of_one_among_fifty_thousand_services() {
    endpoints(Size { namespaces: 500, services: 50_000, endpoints: 20, files: 500 });
}

#[test]
#[ignore = "measures"]
fn an_endpoint_of_one_among_five_thousand_services_in_one_file_each() {
    endpoints(Size { namespaces: 500, services: 5_000, endpoints: 20, files: 5_000 });
}

#[test]
#[ignore = "measures"]
fn an_endpoint_of_one_among_a_thousand_services_in_one_file() {
    endpoints(Size { namespaces: 100, services: 1_000, endpoints: 20, files: 1 });
}
