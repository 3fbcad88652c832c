//! The binary `canopy`: one program, several modes. Nothing but the allocator and the hand-over to `cli`.

use std::process::ExitCode;

/// Every allocation of the process, C libraries included, goes through jemalloc, so that memory can be
/// attributed to the arena of the cell that asked for it.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    node_proxy::cli::main()
}
