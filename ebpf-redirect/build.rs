//! Builds the eBPF programs from their sources, with a compiler that has the sources of `core`: Debian's, or a
//! rustup nightly. It must never take an object from anywhere else.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    process::Command,
};

/// The programs' objects, one per binary of `programs/`.
const OBJECTS: [&str; 3] = ["fence", "hooks", "lookup"];

fn main() -> io::Result<()> {
    for input in ["build.rs", "programs/src", "programs/Cargo.toml", "programs/Cargo.lock", "abi/src"] {
        println!("cargo::rerun-if-changed={input}");
    }
    println!("cargo::rerun-if-env-changed=CANOPY_SKIP_EBPF");
    let out = variable("OUT_DIR")?;
    if env::var_os("CANOPY_SKIP_EBPF").is_some_and(|value| value == "1") {
        println!(
            "cargo::warning=CANOPY_SKIP_EBPF=1: built without eBPF programs; steering by the kernel will say so"
        );
        return OBJECTS.iter().try_for_each(|name| fs::write(object(&out, name), []));
    }
    match build(&out) {
        Ok(()) => Ok(()),
        Err(why) => {
            println!("cargo::error=the eBPF programs cannot be built: {why}");
            println!(
                "cargo::error=to build without them (no steering by the kernel), set CANOPY_SKIP_EBPF=1"
            );
            Ok(())
        }
    }
}

/// Runs the inner cargo. Its target directory is its own, so that it never waits for a lock that the outer holds.
fn build(out: &Path) -> Result<(), String> {
    let compiler = compiler()?;
    let linker = linker()?;
    let source = variable("CARGO_MANIFEST_DIR").map_err(|error| error.to_string())?.join("programs");
    let target = out.join("programs");
    let mut cargo = Command::new(&compiler.cargo);
    for (name, _) in env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        // The outer build's choices (a wrapper such as clippy-driver, flags, a target) are not for this one.
        if name.starts_with("RUST") || (name.starts_with("CARGO") && name != "CARGO_HOME") {
            cargo.env_remove(name);
        }
    }
    let status = cargo
        .current_dir(&source)
        .args(["build", "--quiet", "--release", "--locked", "--target", "bpfel-unknown-none"])
        .args(["-Z", "build-std=core", "--target-dir"])
        .arg(&target)
        .env("RUSTC", &compiler.rustc)
        .env("RUSTC_BOOTSTRAP", "1")
        .env("RUSTFLAGS", format!("-C linker={} -C debuginfo=2 -C link-arg=--btf", linker.display()))
        .status()
        .map_err(|error| format!("{} did not run: {error}", compiler.cargo.display()))?;
    if !status.success() {
        return Err(format!("{} ended with {status}; its messages are above", compiler.cargo.display()));
    }
    let built = target.join("bpfel-unknown-none/release");
    OBJECTS.iter().try_for_each(|name| {
        fs::copy(built.join(name), object(out, name)).map(drop).map_err(|error| format!("{name}: {error}"))
    })
}

/// A compiler with the sources of `core`, and its cargo.
struct Compiler {
    rustc: PathBuf,
    cargo: PathBuf,
}

fn compiler() -> Result<Compiler, String> {
    let debian = Compiler { rustc: "/usr/bin/rustc".into(), cargo: "/usr/bin/cargo".into() };
    let rustup = ["rustc", "cargo"].map(|tool| {
        output(Command::new("rustup").args(["which", "--toolchain", "nightly", tool])).map(PathBuf::from)
    });
    let nightly = match rustup {
        [Some(rustc), Some(cargo)] => Some(Compiler { rustc, cargo }),
        _ => None,
    };
    [Some(debian), nightly].into_iter().flatten().find(has_core_source).ok_or_else(|| {
        "no Rust compiler with the sources of its library. On Debian: apt-get install rustc-web cargo-web \
         rust-web-src. With rustup: rustup toolchain install nightly --component rust-src"
            .to_owned()
    })
}

fn has_core_source(compiler: &Compiler) -> bool {
    let sysroot =
        output(Command::new(&compiler.rustc).args(["--print", "sysroot"]).env_remove("RUSTUP_TOOLCHAIN"));
    compiler.cargo.exists()
        && sysroot.is_some_and(|path| Path::new(&path).join("lib/rustlib/src/rust/library/core").exists())
}

fn linker() -> Result<PathBuf, String> {
    let path = env::var_os("PATH").unwrap_or_default();
    let cargo_home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo"));
    let installed = [cargo_home, home].into_iter().flatten().map(|home| home.join("bin"));
    env::split_paths(&path)
        .chain(installed)
        .map(|dir| dir.join("bpf-linker"))
        .find(|path| path.exists())
        .ok_or_else(|| {
            "bpf-linker is missing. With the LLVM of that Rust compiler (rustc -vV says which), on Debian: \
             apt-get install llvm-22-dev; LLVM_PREFIX=/usr/lib/llvm-22 cargo install bpf-linker \
             --no-default-features --features llvm-22"
                .to_owned()
        })
}

/// What a command prints, if it succeeds.
fn output(command: &mut Command) -> Option<String> {
    let output = command.output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn variable(name: &str) -> io::Result<PathBuf> {
    env::var_os(name).map(PathBuf::from).ok_or_else(|| io::Error::other(format!("cargo did not set {name}")))
}

fn object(out: &Path, name: &str) -> PathBuf {
    out.join(format!("{name}.bpf.o"))
}
