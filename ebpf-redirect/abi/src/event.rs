//! The closed sets of hooks and of what they decide; the counters' index is made of both.

/// A hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Hook {
    /// `connect` on an IPv4 socket.
    Connect4 = 0,
    /// `connect` on an IPv6 socket.
    Connect6 = 1,
    /// `getpeername` and `accept` on an IPv4 socket.
    GetPeerName4 = 2,
    /// `getpeername` and `accept` on an IPv6 socket.
    GetPeerName6 = 3,
    /// `getsockname` on an IPv4 socket.
    GetSockName4 = 4,
    /// `getsockname` on an IPv6 socket.
    GetSockName6 = 5,
    /// TCP's own callbacks.
    SockOps = 6,
    /// The choice of a listener for a new connection.
    SkLookup = 7,
    /// What a pod sends, on the host's end of its link.
    FenceSend = 8,
    /// What a pod receives, on the host's end of its link.
    FenceReceive = 9,
}

impl Hook {
    /// All, in the order of their numbers.
    pub const ALL: [Self; 10] = [
        Self::Connect4,
        Self::Connect6,
        Self::GetPeerName4,
        Self::GetPeerName6,
        Self::GetSockName4,
        Self::GetSockName6,
        Self::SockOps,
        Self::SkLookup,
        Self::FenceSend,
        Self::FenceReceive,
    ];

    /// Its name in metrics, in pins and as a program.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connect4 => "connect4",
            Self::Connect6 => "connect6",
            Self::GetPeerName4 => "getpeername4",
            Self::GetPeerName6 => "getpeername6",
            Self::GetSockName4 => "getsockname4",
            Self::GetSockName6 => "getsockname6",
            Self::SockOps => "sock_ops",
            Self::SkLookup => "sk_lookup",
            Self::FenceSend => "fence_send",
            Self::FenceReceive => "fence_receive",
        }
    }

    /// The hook of that number.
    pub const fn of(number: u32) -> Option<Self> {
        if (number as usize) < Self::ALL.len() { Some(Self::ALL[number as usize]) } else { None }
    }
}

/// What a hook decided or did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Event {
    /// The connection goes to the pod's listener.
    Steered = 0,
    /// Left alone: the network namespace is not enrolled.
    PassedNotEnrolled = 1,
    /// Left alone: the proxy's own socket.
    PassedExempt = 2,
    /// Left alone: to loopback.
    PassedLoopback = 3,
    /// Left alone: between the pod and itself.
    PassedOwnAddress = 4,
    /// Left alone: the port is excluded.
    PassedExcludedPort = 5,
    /// Left alone: the network is excluded.
    PassedExcludedCidr = 6,
    /// Left alone: not TCP.
    PassedNotTcp = 7,
    /// Left alone: IPv6 link-local, whose scope a rewrite would lose.
    PassedLinkLocal = 8,
    /// Left alone: the loopback port of steered connections, dialled by the application itself.
    PassedNotSteered = 9,
    /// Refused: the pod's listener is gone.
    RefusedNoListener = 10,
    /// Refused: the kernel has no memory to remember the destination.
    RefusedNoMemory = 11,
    /// Refused: the pod has too many connections whose ends have not met.
    RefusedInFlight = 12,
    /// An address was reported as the application, or the proxy, has to see it.
    Restored = 13,
    /// The note of a connecting socket was sent ahead to the accepting end.
    Carried = 14,
    /// The accepting end took it.
    Arrived = 15,
    /// The note could not be sent or taken.
    Lost = 16,
    /// A decision was not traced: the ring is full.
    TraceLost = 17,
    /// Refused: the note of a steered connection of the pod could not be sent ahead, and this may be that connection.
    RefusedLost = 18,
    /// Refused: to an IPv6 link-local address, which the fence would drop.
    RefusedLinkLocal = 19,
    /// Dropped by the fence: see `Reason::Source`.
    DroppedSource = 20,
    /// Dropped by the fence: see `Reason::Destination`.
    DroppedDestination = 21,
    /// Dropped by the fence: see `Reason::Raw`.
    DroppedRaw = 22,
    /// Dropped by the fence: see `Reason::NoSocket`.
    DroppedNoSocket = 23,
    /// Dropped by the fence: see `Reason::NotSteered`.
    DroppedNotSteered = 24,
    /// Dropped by the fence: see `Reason::Rewritten`.
    DroppedRewritten = 25,
    /// Dropped by the fence: see `Reason::Fragment`.
    DroppedFragment = 26,
    /// Dropped by the fence: see `Reason::ResetPayload`.
    DroppedResetPayload = 27,
    /// Dropped by the fence: see `Reason::EtherType`.
    DroppedEtherType = 28,
    /// Dropped by the fence: see `Reason::Header`.
    DroppedHeader = 29,
    /// Dropped by the fence: see `Reason::Encapsulated`.
    DroppedEncapsulated = 30,
    /// Dropped by the fence: see `Reason::Denied`.
    DroppedDenied = 31,
    /// The fence only observes; else it had been dropped: see `Reason::Source`.
    ObservedSource = 32,
    /// The fence only observes; else it had been dropped: see `Reason::Destination`.
    ObservedDestination = 33,
    /// The fence only observes; else it had been dropped: see `Reason::Raw`.
    ObservedRaw = 34,
    /// The fence only observes; else it had been dropped: see `Reason::NoSocket`.
    ObservedNoSocket = 35,
    /// The fence only observes; else it had been dropped: see `Reason::NotSteered`.
    ObservedNotSteered = 36,
    /// The fence only observes; else it had been dropped: see `Reason::Rewritten`.
    ObservedRewritten = 37,
    /// The fence only observes; else it had been dropped: see `Reason::Fragment`.
    ObservedFragment = 38,
    /// The fence only observes; else it had been dropped: see `Reason::ResetPayload`.
    ObservedResetPayload = 39,
    /// The fence only observes; else it had been dropped: see `Reason::EtherType`.
    ObservedEtherType = 40,
    /// The fence only observes; else it had been dropped: see `Reason::Header`.
    ObservedHeader = 41,
    /// The fence only observes; else it had been dropped: see `Reason::Encapsulated`.
    ObservedEncapsulated = 42,
    /// The fence only observes; else it had been dropped: see `Reason::Denied`.
    ObservedDenied = 43,
    /// Refused: the pod's tenant has connected as often as it may in this second.
    RefusedRate = 44,
    /// Refused: the pod's tenant has as many connections as it may.
    RefusedConnections = 45,
    /// Refused: the pod has as many connections as it may.
    RefusedWorkload = 46,
}

impl Event {
    /// All, in the order of their numbers.
    pub const ALL: [Self; 47] = [
        Self::Steered,
        Self::PassedNotEnrolled,
        Self::PassedExempt,
        Self::PassedLoopback,
        Self::PassedOwnAddress,
        Self::PassedExcludedPort,
        Self::PassedExcludedCidr,
        Self::PassedNotTcp,
        Self::PassedLinkLocal,
        Self::PassedNotSteered,
        Self::RefusedNoListener,
        Self::RefusedNoMemory,
        Self::RefusedInFlight,
        Self::Restored,
        Self::Carried,
        Self::Arrived,
        Self::Lost,
        Self::TraceLost,
        Self::RefusedLost,
        Self::RefusedLinkLocal,
        Self::DroppedSource,
        Self::DroppedDestination,
        Self::DroppedRaw,
        Self::DroppedNoSocket,
        Self::DroppedNotSteered,
        Self::DroppedRewritten,
        Self::DroppedFragment,
        Self::DroppedResetPayload,
        Self::DroppedEtherType,
        Self::DroppedHeader,
        Self::DroppedEncapsulated,
        Self::DroppedDenied,
        Self::ObservedSource,
        Self::ObservedDestination,
        Self::ObservedRaw,
        Self::ObservedNoSocket,
        Self::ObservedNotSteered,
        Self::ObservedRewritten,
        Self::ObservedFragment,
        Self::ObservedResetPayload,
        Self::ObservedEtherType,
        Self::ObservedHeader,
        Self::ObservedEncapsulated,
        Self::ObservedDenied,
        Self::RefusedRate,
        Self::RefusedConnections,
        Self::RefusedWorkload,
    ];

    /// Its name in metrics and traces.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Steered => "steered",
            Self::PassedNotEnrolled => "passed_not_enrolled",
            Self::PassedExempt => "passed_exempt",
            Self::PassedLoopback => "passed_loopback",
            Self::PassedOwnAddress => "passed_own_address",
            Self::PassedExcludedPort => "passed_excluded_port",
            Self::PassedExcludedCidr => "passed_excluded_cidr",
            Self::PassedNotTcp => "passed_not_tcp",
            Self::PassedLinkLocal => "passed_link_local",
            Self::PassedNotSteered => "passed_not_steered",
            Self::RefusedNoListener => "refused_no_listener",
            Self::RefusedNoMemory => "refused_no_memory",
            Self::RefusedInFlight => "refused_in_flight",
            Self::Restored => "restored",
            Self::Carried => "carried",
            Self::Arrived => "arrived",
            Self::Lost => "lost",
            Self::TraceLost => "trace_lost",
            Self::RefusedLost => "refused_lost",
            Self::RefusedLinkLocal => "refused_link_local",
            Self::DroppedSource => "dropped_source",
            Self::DroppedDestination => "dropped_destination",
            Self::DroppedRaw => "dropped_raw",
            Self::DroppedNoSocket => "dropped_no_socket",
            Self::DroppedNotSteered => "dropped_not_steered",
            Self::DroppedRewritten => "dropped_rewritten",
            Self::DroppedFragment => "dropped_fragment",
            Self::DroppedResetPayload => "dropped_reset_payload",
            Self::DroppedEtherType => "dropped_ethertype",
            Self::DroppedHeader => "dropped_header",
            Self::DroppedEncapsulated => "dropped_encapsulated",
            Self::DroppedDenied => "dropped_denied",
            Self::ObservedSource => "observed_source",
            Self::ObservedDestination => "observed_destination",
            Self::ObservedRaw => "observed_raw",
            Self::ObservedNoSocket => "observed_no_socket",
            Self::ObservedNotSteered => "observed_not_steered",
            Self::ObservedRewritten => "observed_rewritten",
            Self::ObservedFragment => "observed_fragment",
            Self::ObservedResetPayload => "observed_reset_payload",
            Self::ObservedEtherType => "observed_ethertype",
            Self::ObservedHeader => "observed_header",
            Self::ObservedEncapsulated => "observed_encapsulated",
            Self::ObservedDenied => "observed_denied",
            Self::RefusedRate => "refused_rate",
            Self::RefusedConnections => "refused_connections",
            Self::RefusedWorkload => "refused_workload",
        }
    }

    /// The event of that number.
    pub const fn of(number: u32) -> Option<Self> {
        if (number as usize) < Self::ALL.len() { Some(Self::ALL[number as usize]) } else { None }
    }

    /// Where it is counted for a hook.
    #[inline(always)]
    pub const fn counter(self, hook: Hook) -> u32 {
        counter(hook, self as u32)
    }
}

/// Where the event of that number is counted for a hook.
#[inline(always)]
pub const fn counter(hook: Hook, event: u32) -> u32 {
    hook as u32 * STRIDE + event
}

/// Counters per hook, with room to grow without a change of layout.
const STRIDE: u32 = 64;

/// Length of the array of counters.
pub const COUNTERS: u32 = STRIDE * Hook::ALL.len() as u32;
