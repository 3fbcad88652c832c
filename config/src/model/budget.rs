//! What a tenant may use on each node, and what each number does to it, in one sentence.
//!
//! Plain numbers that were checked when they were lowered. It must never say of a number that it does what nothing enforces yet.

use serde::{Deserialize, Serialize};

/// What a tenant may use on each node; `None` is "no bound of its own".
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// Guaranteed CPU, in thousandths of a core.
    pub cpu_share_millis: Option<u64>,
    /// Upper bound of CPU, in thousandths of a core.
    pub cpu_cap_millis: Option<u64>,
    /// Bytes of memory at which admission stops.
    pub memory_soft_bytes: Option<u64>,
    /// Bytes of memory at which connections are shed.
    pub memory_hard_bytes: Option<u64>,
    /// Connections open at a time.
    pub connections: Option<u64>,
    /// Connections open at a time of each workload.
    pub connections_per_workload: Option<u64>,
    /// New connections per second.
    pub connections_per_second: Option<u64>,
    /// Requests per second.
    pub requests_per_second: Option<u64>,
    /// Requests in flight at a time.
    pub requests_in_flight: Option<u64>,
    /// Bytes per second towards the tenant's workloads.
    pub bytes_per_second_in: Option<u64>,
    /// Bytes per second from the tenant's workloads.
    pub bytes_per_second_out: Option<u64>,
    /// File descriptors of the daemon that its connections may hold.
    pub descriptors: Option<u64>,
    /// Configuration objects of its namespaces.
    pub objects: Option<u64>,
    /// Bytes of its compiled configuration.
    pub compiled_bytes: Option<u64>,
    /// Changes of its configuration per second.
    pub updates_per_second: Option<u64>,
}

/// One number of a budget, and what it does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Effect {
    /// The field, as `connections` or `memory.soft`.
    pub field: &'static str,
    /// The number, with its unit where it has one.
    pub value: String,
    /// What it does, in a sentence.
    pub effect: String,
}

impl Budget {
    /// What each number that is said does, in the order in which they are documented.
    pub fn effects(&self) -> Vec<Effect> {
        let mut effects = Vec::new();
        let mut say = |field, number: Option<u64>, unit: Unit, effect: fn(&str) -> String| {
            if let Some(number) = number {
                let value = unit.of(number);
                effects.push(Effect { field, effect: effect(&value), value });
            }
        };
        self.cpu(&mut say);
        say("memory.soft", self.memory_soft_bytes, Unit::Bytes, |value| {
            format!(
                "while its cell holds more than {value}, new connections are refused, and half-way to memory.hard, or at half as much again, requests too (memory_limit)"
            )
        });
        say("memory.hard", self.memory_hard_bytes, Unit::Bytes, |value| {
            format!(
                "while its cell holds more than {value}, connections end, the largest and the newest first (memory_shed)"
            )
        });
        self.counts(&mut say);
        say("bytesPerSecond.in", self.bytes_per_second_in, Unit::Bytes, |value| {
            format!("what comes to its workloads is slowed to {value} a second, of which nothing is lost")
        });
        say("bytesPerSecond.out", self.bytes_per_second_out, Unit::Bytes, |value| {
            format!("what its workloads send is slowed to {value} a second, of which nothing is lost")
        });
        say("descriptors", self.descriptors, Unit::Number, |value| {
            format!(
                "its connections hold {value} of the daemon's descriptors at most, two for each (connection_limit)"
            )
        });
        say("objects", self.objects, Unit::Number, |value| {
            format!(
                "of more than {value} objects of its namespaces, those that are last by kind and name are not in force (over-budget); where they protect something, all is denied that they may deny"
            )
        });
        say("compiledBytes", self.compiled_bytes, Unit::Bytes, |value| {
            format!("of objects that weigh more than {value} together, the same")
        });
        say("updatesPerSecond", self.updates_per_second, Unit::Number, |value| {
            format!(
                "of more than {value} changes of its objects a second, the next are put off, and taken up together"
            )
        });
        effects
    }

    /// Whether it bounds what is counted as it comes. That is counted by one thread: such a cell has no further lanes.
    pub fn is_counted(&self) -> bool {
        let counts = [
            self.connections,
            self.connections_per_workload,
            self.connections_per_second,
            self.requests_per_second,
            self.requests_in_flight,
            self.bytes_per_second_in,
            self.bytes_per_second_out,
            self.descriptors,
        ];
        counts.iter().any(Option::is_some)
    }

    /// A thread uses one core at most.
    fn cpu(&self, say: &mut impl FnMut(&'static str, Option<u64>, Unit, fn(&str) -> String)) {
        let is_one = self.is_counted();
        let share: fn(&str) -> String = if is_one
            && self.cpu_share_millis.is_some_and(|share| share > ONE_CORE_MILLIS)
        {
            |_| {
                "guarantees its cell one core where others want CPU too: with a budget that counts connections, requests or bytes it has one thread, so what is said beyond one core has no effect".to_owned()
            }
        } else {
            |value| {
                format!(
                    "guarantees its cell {value} CPU where others want CPU too (more than one core where the daemon's --lanes lets it have threads for that); what nobody wants it may use besides"
                )
            }
        };
        say("cpu.share", self.cpu_share_millis, Unit::Cores, share);
        let cap: fn(&str) -> String = if is_one
            && self.cpu_cap_millis.is_some_and(|cap| cap >= ONE_CORE_MILLIS)
        {
            |_| {
                "holds nothing back: with a budget that counts connections, requests or bytes its cell has one thread, which cannot use more than one core"
                    .to_owned()
            }
        } else {
            |value| format!("its cell is held back at {value} CPU, also while nobody else wants CPU")
        };
        say("cpu.cap", self.cpu_cap_millis, Unit::Cores, cap);
    }

    fn counts(&self, say: &mut impl FnMut(&'static str, Option<u64>, Unit, fn(&str) -> String)) {
        say("connections", self.connections, Unit::Number, |value| {
            format!("of more than {value} open at a time, the next is reset (connection_limit)")
        });
        say("connectionsPerWorkload", self.connections_per_workload, Unit::Number, |value| {
            format!(
                "of more than {value} of one pod open at a time, the next is reset (workload_connection_limit)"
            )
        });
        say("connectionsPerSecond", self.connections_per_second, Unit::Number, |value| {
            format!(
                "of more than {value} new ones a second, the next is reset (connection_rate); as many may come at once"
            )
        });
        say("requestsPerSecond", self.requests_per_second, Unit::Number, |value| {
            format!(
                "of more than {value} a second, the next is answered 429 with retry-after (request_rate); as many may come at once"
            )
        });
        say("requestsInFlight", self.requests_in_flight, Unit::Number, |value| {
            format!(
                "of more than {value} at a time, the next is answered 503 with retry-after (request_limit)"
            )
        });
    }
}

/// What one thread of a cell can use.
const ONE_CORE_MILLIS: u64 = 1000;

/// What a number counts.
#[derive(Debug, Clone, Copy)]
enum Unit {
    Number,
    Bytes,
    /// Thousandths of a core.
    Cores,
}

impl Unit {
    /// As a quantity of Kubernetes, in the largest unit that is exact.
    fn of(self, number: u64) -> String {
        match self {
            Self::Number => number.to_string(),
            Self::Cores if number.is_multiple_of(1000) => (number / 1000).to_string(),
            Self::Cores => format!("{number}m"),
            Self::Bytes => {
                let power = (number.trailing_zeros() / 10).min(4);
                let suffix = ["", "Ki", "Mi", "Gi", "Ti"][power as usize];
                format!("{}{suffix}", number >> (10 * power))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_has_one_sentence_and_what_is_not_said_has_none() {
        assert_eq!(Budget::default().effects(), []);
        let some = Some(1 << 21);
        let all = Budget {
            cpu_share_millis: Some(250),
            cpu_cap_millis: Some(2000),
            memory_soft_bytes: some,
            memory_hard_bytes: some,
            connections: some,
            connections_per_workload: some,
            connections_per_second: some,
            requests_per_second: some,
            requests_in_flight: some,
            bytes_per_second_in: Some(1_000_000),
            bytes_per_second_out: some,
            descriptors: some,
            objects: some,
            compiled_bytes: some,
            updates_per_second: some,
        };
        let effects = all.effects();
        let said: Vec<_> = effects.iter().map(|effect| (effect.field, effect.value.as_str())).collect();
        assert_eq!(said.len(), 15, "{said:?}");
        for expected in [
            ("cpu.share", "250m"),
            ("cpu.cap", "2"),
            ("memory.soft", "2Mi"),
            ("connections", "2097152"),
            ("bytesPerSecond.in", "1000000"),
        ] {
            assert!(said.contains(&expected), "{expected:?} in {said:?}");
        }
        assert!(effects.iter().all(|effect| !effect.effect.is_empty()));
    }

    #[test]
    fn more_than_one_core_has_no_effect_only_where_one_thread_counts_what_comes() {
        let said = |share, cap, requests_per_second| {
            let budget = Budget {
                cpu_share_millis: Some(share),
                cpu_cap_millis: Some(cap),
                requests_per_second,
                ..Budget::default()
            };
            budget.effects().into_iter().map(|effect| effect.effect).take(2).collect::<Vec<_>>()
        };
        let counted = Some(10);
        let [share, cap] = said(250, 999, counted).try_into().unwrap();
        assert!(share.contains("guarantees its cell 250m CPU"), "{share}");
        assert!(cap.contains("held back at 999m CPU"), "{cap}");
        let [share, cap] = said(1001, 1000, counted).try_into().unwrap();
        assert!(share.contains("no effect") && cap.contains("holds nothing back"), "{share}; {cap}");
        let [share, cap] = said(1001, 2000, None).try_into().unwrap();
        assert!(share.contains("its cell 1001m CPU") && cap.contains("held back at 2 CPU"), "{share}; {cap}");
    }
}
