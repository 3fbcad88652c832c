//! A directory over time: edits, files that are being written, links, directories that come and go.

use std::os::unix::fs::symlink;

use super::*;

const SERVICE: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: NAME, namespace: shop}\n\
    spec:\n  clusterIP: 10.96.0.1\n  ports: [{port: 80}]\n";
const NAMESPACE: &str = "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n";
const PATIENCE: Duration = Duration::from_secs(5);

fn write(directory: &Path, service: &str) {
    let text = format!("{NAMESPACE}---\n{}", SERVICE.replace("NAME", service));
    fs::write(directory.join("a.yaml"), text).unwrap();
}

fn services(outcome: Option<Outcome>) -> Vec<String> {
    outcome.map(|outcome| outcome.mesh.services.keys().map(ToString::to_string).collect()).unwrap_or_default()
}

fn source(directory: &Path) -> FileSource {
    FileSource::open(directory, Options::default()).unwrap()
}

#[test]
fn an_edit_is_seen_and_quiet_is_quiet() {
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), "one");
    let mut source = source(directory.path());
    assert_eq!(services(source.next(PATIENCE)), ["shop/one"]);
    assert!(source.next(Duration::from_millis(1_500)).is_none());
    write(directory.path(), "two");
    assert_eq!(services(source.next(PATIENCE)), ["shop/two"]);
}

#[test]
fn the_line_of_a_finding_in_a_file_that_is_not_read_again_is_shown() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let slice = "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\naddressType: IPv4\n\
        metadata: {name: one-1, namespace: shop, labels: {kubernetes.io/service-name: one}}\n\
        endpoints: [{addresses: [10.1.2.3]}]\nports: [{port: 80}]\n";
    let service = SERVICE.replace("NAME", "one");
    fs::write(at("z.yaml"), format!("{NAMESPACE}---\n{service}---\n{slice}")).unwrap();
    // Until its stamp can be relied on.
    std::thread::sleep(Duration::from_millis(300));
    let mut following = source(directory.path());
    assert_eq!(services(following.next(PATIENCE)), ["shop/one"]);
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: x, namespace: bank}\n\
        spec: {nodeName: far, containers: [{name: x}]}\nstatus: {podIP: 10.1.2.3}\n";
    fs::write(at("a.yaml"), pod).unwrap();
    let outcome = following.next(PATIENCE).unwrap();
    let shown: Vec<_> = outcome.findings.iter().filter(|finding| finding.file.ends_with("z.yaml")).collect();
    assert!(
        !shown.is_empty() && shown.iter().all(|finding| finding.excerpt.is_some()),
        "{:#?}",
        outcome.findings
    );
}

#[test]
fn a_change_that_was_put_off_is_taken_up_without_another_edit() {
    let directory = tempfile::tempdir().unwrap();
    let tenant = "apiVersion: canopy.mesh/v1alpha1\nkind: Tenant\nmetadata: {name: team}\n\
        spec: {namespaces: [shop], budget: {updatesPerSecond: 1}}\n";
    fs::write(directory.path().join("tenant.yaml"), tenant).unwrap();
    write(directory.path(), "one");
    let mut source = source(directory.path());
    assert_eq!(services(source.next(PATIENCE)), ["shop/one"]);
    write(directory.path(), "two");
    assert_eq!(services(source.next(PATIENCE)), ["shop/two"]);
    write(directory.path(), "three");
    let mut seen = Vec::new();
    while seen != ["shop/three"] {
        let outcome = source.next(PATIENCE);
        assert!(outcome.is_some(), "it waits for an edit after {seen:?}");
        seen = services(outcome);
    }
    assert!(source.next(Duration::from_millis(1_500)).is_none(), "and then it is quiet");
}

#[test]
fn a_file_that_is_truncated_and_written_later_loses_nothing_meanwhile() {
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), "one");
    let mut source = source(directory.path());
    assert_eq!(services(source.next(PATIENCE)), ["shop/one"]);
    for meanwhile in ["", "# being written\n---\n"] {
        fs::write(directory.path().join("a.yaml"), meanwhile).unwrap();
        // Another file counts at once.
        let other = SERVICE.replace("NAME", "other").replace("0.1", "0.2");
        fs::write(directory.path().join("b.yaml"), format!("# {meanwhile:?}\n{other}")).unwrap();
        let outcome = source.next(Duration::from_millis(400));
        assert_eq!(services(outcome), ["shop/one", "shop/other"], "{meanwhile:?}");
        write(directory.path(), "one");
        let outcome = source.next(PATIENCE).unwrap();
        assert!(outcome.changes.is_empty() && outcome.findings.is_empty(), "{:#?}", outcome.findings);
    }
}

#[test]
fn a_file_that_stays_empty_is_empty_after_a_second() {
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), "one");
    let mut source = source(directory.path());
    assert_eq!(services(source.next(PATIENCE)), ["shop/one"]);
    let start = Instant::now();
    fs::write(directory.path().join("a.yaml"), "").unwrap();
    assert_eq!(services(source.next(PATIENCE)), ["shop/one"]);
    while !source.next(PATIENCE).unwrap().mesh.services.is_empty() {}
    assert!((EMPTY..EMPTY + Duration::from_millis(600)).contains(&start.elapsed()), "{:?}", start.elapsed());
    assert!(source.next(Duration::from_millis(1_200)).is_none(), "and then it is quiet");
}

#[test]
fn links_of_a_config_map_are_followed_when_they_are_swapped() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    for (version, service) in [("..1", "one"), ("..2", "two")] {
        fs::create_dir(at(version)).unwrap();
        write(&at(version), service);
    }
    symlink("..1", at("..data")).unwrap();
    symlink("..data/a.yaml", at("a.yaml")).unwrap();
    let mut source = source(directory.path());
    assert_eq!(services(source.next(PATIENCE)), ["shop/one"]);
    symlink("..2", at("..data_tmp")).unwrap();
    fs::rename(at("..data_tmp"), at("..data")).unwrap();
    assert_eq!(services(source.next(PATIENCE)), ["shop/two"]);
}

#[test]
fn a_directory_that_goes_keeps_what_was_and_is_found_again() {
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("conf");
    fs::create_dir(&directory).unwrap();
    write(&directory, "one");
    let mut source = source(&directory);
    assert_eq!(services(source.next(PATIENCE)), ["shop/one"]);
    fs::rename(&directory, parent.path().join("away")).unwrap();
    assert!(source.next(Duration::from_millis(1_500)).is_none());
    let next = parent.path().join("next");
    fs::create_dir(&next).unwrap();
    write(&next, "two");
    fs::rename(&next, &directory).unwrap();
    assert_eq!(services(source.next(PATIENCE)), ["shop/two"]);
    // And the new one is watched: an edit is seen before the next look is due.
    write(&directory, "three");
    assert_eq!(services(source.next(Duration::from_millis(900))), ["shop/three"]);
}
