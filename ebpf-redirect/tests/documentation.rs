//! What docs/operations.md says of hooks and fences is what the programs can say, in both directions.

use std::collections::BTreeSet;

use ebpf_redirect_abi::{Event, Hook, Reason};

const OPERATIONS: &str = include_str!("../../docs/operations.md");

fn section(heading: &str) -> &'static str {
    let mut sections = OPERATIONS.split("\n## ");
    sections.find(|section| section.starts_with(heading)).expect("a section of that heading")
}

/// First cells, in backquotes, of a text's tables.
fn first_cells(text: &str) -> BTreeSet<&str> {
    text.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect()
}

/// Whether the fence says it of a packet.
fn is_of_the_fence(event: Event) -> bool {
    event.name().starts_with("dropped_") || event.name().starts_with("observed_")
}

#[test]
fn every_event_of_the_steering_hooks_is_explained() {
    let events: BTreeSet<_> =
        Event::ALL.into_iter().filter(|event| !is_of_the_fence(*event)).map(Event::name).collect();
    assert_eq!(first_cells(section("The hooks")), events);
}

#[test]
fn every_hook_is_named_where_events_are_explained() {
    for hook in Hook::ALL {
        assert!(section("The hooks").contains(&format!("`{}`", hook.name())), "{}", hook.name());
    }
}

#[test]
fn every_reason_of_the_fence_is_explained_and_has_its_two_events() {
    let (_, table) = section("The fence").split_once("| reason |").expect("the table of reasons");
    let reasons: BTreeSet<_> = Reason::ALL.into_iter().map(Reason::name).collect();
    assert_eq!(first_cells(table), reasons);
    let events: BTreeSet<_> =
        Event::ALL.into_iter().filter(|event| is_of_the_fence(*event)).map(Event::name).collect();
    let said: BTreeSet<String> = reasons
        .iter()
        .flat_map(|reason| [format!("dropped_{reason}"), format!("observed_{reason}")])
        .collect();
    assert_eq!(events, said.iter().map(String::as_str).collect());
}
