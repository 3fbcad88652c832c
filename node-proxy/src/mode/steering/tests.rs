//! Tests of the choice between the ways of steering.

use std::{
    cell::Cell,
    io::{self, Write},
    sync::{Arc, Mutex},
};

use ebpf_redirect::Mechanism;

use super::*;

fn no_sk_lookup() -> RedirectError {
    let log = "Invalid argument (os error 22)\nprocessed 7 insns".to_owned();
    RedirectError::Hook { hook: "sk_lookup", minimum_kernel: "5.9", log }
}

/// What is opened where the kernel says this of the hooks, and how often iptables was tried.
fn chosen(
    choice: RedirectChoice,
    error: impl FnOnce() -> RedirectError,
) -> (Result<Mechanism, RedirectError>, u32) {
    let tried = Cell::new(0);
    let by_iptables = || {
        tried.set(tried.get() + 1);
        Ok(Mechanism::Iptables)
    };
    (choose(choice, || Err(error()), by_iptables), tried.get())
}

/// The log of one call.
fn logged(call: impl FnOnce()) -> String {
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    tracing::subscriber::with_default(subscriber, call);
    let text = lines.0.lock().unwrap().clone();
    String::from_utf8(text).unwrap()
}

#[derive(Debug, Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn fall_back_is_taken_for_lacks_of_the_machine_only() {
    assert!(is_lack_of_the_machine(&RedirectError::NoCgroup2));
    assert!(is_lack_of_the_machine(&no_sk_lookup()));
    assert!(!is_lack_of_the_machine(&RedirectError::InstanceInUse { name: "default".to_owned() }));
    assert!(!is_lack_of_the_machine(&RedirectError::Permission { what: "load" }));
}

#[test]
fn kernel_without_a_hook_is_steered_by_iptables_and_the_log_says_why() {
    let log = logged(|| {
        let (opened, _) = chosen(RedirectChoice::Auto, no_sk_lookup);
        assert_eq!(opened.unwrap(), Mechanism::Iptables);
    });
    for part in ["WARN", "sk_lookup", "needs Linux 5.9", "processed 7 insns", "iptables it is"] {
        assert!(log.contains(part), "{part:?} is not in {log}");
    }
}

#[test]
fn kernel_without_a_hook_is_an_error_where_hooks_were_asked_for() {
    let (opened, tried) = chosen(RedirectChoice::Ebpf, no_sk_lookup);
    let error = opened.unwrap_err();
    assert!(matches!(error, RedirectError::Hook { hook: "sk_lookup", .. }), "{error}");
    assert_eq!(tried, 0);
    let said = error.to_string();
    assert!(
        said.contains("update the kernel, or use iptables") && said.contains("processed 7 insns"),
        "{said}"
    );
}

#[test]
fn mistake_of_the_operators_is_an_error_whatever_was_asked_for() {
    let in_use = || RedirectError::InstanceInUse { name: "default".to_owned() };
    for choice in [RedirectChoice::Auto, RedirectChoice::Ebpf] {
        let (opened, tried) = chosen(choice, in_use);
        assert!(matches!(opened, Err(RedirectError::InstanceInUse { .. })), "{opened:?}");
        assert_eq!(tried, 0);
    }
}

#[test]
fn daemon_that_has_ended_is_named_with_the_commands_that_clear_it() {
    let dead = Dead { instance: "blue".to_owned(), pods: 2, at: "/sys/fs/bpf/canopy/v1/blue".into() };
    assert_eq!(
        died(&dead),
        "no daemon of the name blue runs, but one has; of the 2 pods that it left, those that live are refused: \
         /sys/fs/bpf/canopy/v1/blue"
    );
    for command in ["canopy run --instance blue --config DIR", "canopy release --instance blue"] {
        assert!(how_to_clear(&dead).contains(command));
    }
}
