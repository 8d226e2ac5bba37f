//! What a green thread is doing, why it waits, and how urgent it is.

/// The life of a green thread.
///
/// ```text
/// Created ─► Ready ─► Running ─► Finished
///              ▲        │  │ └──► Cancelled
///              │        │  └────► Preempted ─┐
///              ├─ Blocked ◄─┘                │
///              └─────────────────────────────┘
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
pub enum GvtState {
    /// Spawned; holds no stack yet.
    Created = 0,
    /// Has a stack and waits for a worker.
    Ready = 1,
    /// On a worker.
    Running = 2,
    /// Waits for something; see [`WaitReason`].
    Blocked = 3,
    /// Taken off its worker by force; waits for one.
    Preempted = 4,
    /// Returned, or panicked.
    Finished = 5,
    /// Unwound at the request of a shutdown, or never started because of one.
    Cancelled = 6,
}

impl GvtState {
    /// The state with this number; `None` for a number that is no state.
    pub const fn from_u8(value: u8) -> Option<Self> {
        Some(match value {
            0 => Self::Created,
            1 => Self::Ready,
            2 => Self::Running,
            3 => Self::Blocked,
            4 => Self::Preempted,
            5 => Self::Finished,
            6 => Self::Cancelled,
            _ => return None,
        })
    }

    /// The state's name, for people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Ready => "ready",
            Self::Running => "running",
            Self::Blocked => "blocked",
            Self::Preempted => "preempted",
            Self::Finished => "finished",
            Self::Cancelled => "cancelled",
        }
    }
}

/// Why a [`Blocked`](GvtState::Blocked) thread waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
#[non_exhaustive]
pub enum WaitReason {
    /// It does not wait.
    None = 0,
    /// Parked by its own request.
    Park = 1,
    /// For the first of several operations.
    Select = 2,
    /// For a message.
    ChannelRecv = 3,
    /// For room in a channel.
    ChannelSend = 4,
    /// For a mutex.
    Mutex = 5,
    /// For a condition variable.
    Condvar = 6,
    /// For permits.
    Semaphore = 7,
    /// For another thread's end.
    Join = 8,
    /// For a point in time.
    Sleep = 9,
    /// For a file descriptor.
    Io = 10,
    /// Inside a call that blocks its OS thread.
    BlockingCall = 11,
    /// For its scope's threads.
    Scope = 12,
}

impl WaitReason {
    /// The reason with this number; `None` the variant for a number that is no reason.
    pub const fn from_u8(value: u8) -> Self {
        match value {
            1 => Self::Park,
            2 => Self::Select,
            3 => Self::ChannelRecv,
            4 => Self::ChannelSend,
            5 => Self::Mutex,
            6 => Self::Condvar,
            7 => Self::Semaphore,
            8 => Self::Join,
            9 => Self::Sleep,
            10 => Self::Io,
            11 => Self::BlockingCall,
            12 => Self::Scope,
            _ => Self::None,
        }
    }

    /// The reason's name, for people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "nothing",
            Self::Park => "park",
            Self::Select => "select",
            Self::ChannelRecv => "channel receive",
            Self::ChannelSend => "channel send",
            Self::Mutex => "mutex",
            Self::Condvar => "condvar",
            Self::Semaphore => "semaphore",
            Self::Join => "join",
            Self::Sleep => "sleep",
            Self::Io => "I/O",
            Self::BlockingCall => "blocking call",
            Self::Scope => "scope",
        }
    }
}

/// How urgent a thread is. [`Order`](crate::Order) says what a queue does with it: under
/// [`Order::Fair`](crate::Order::Fair) nothing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash, Default)]
#[repr(u8)]
pub enum Priority {
    /// Before everything else.
    Critical = 0,
    /// Before normal work.
    High = 1,
    /// The default.
    #[default]
    Normal = 2,
    /// When nothing more urgent is ready; the only level that dedicated low-priority workers run.
    Low = 3,
}

impl Priority {
    /// All levels, most urgent first.
    pub const ALL: [Priority; 4] = [Self::Critical, Self::High, Self::Normal, Self::Low];

    /// The level with this number, [`Low`](Self::Low) for anything above 3.
    pub const fn from_u8(value: u8) -> Self {
        match value {
            0 => Self::Critical,
            1 => Self::High,
            2 => Self::Normal,
            _ => Self::Low,
        }
    }
}
