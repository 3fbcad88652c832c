//! Every seed of the fuzz targets is put to what its target holds, so that what was found once stays out between two runs
//! of `make fuzz`. A target without a line here, or without a seed, is a failure.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    sync::mpsc::{RecvTimeoutError, channel},
    thread,
    time::Duration,
};

use inputs::{
    answers, baggage_forwarded, cached, certificates, connect_request, detect, discovered, heads, lowering,
    networks, requests, routing, said, scalars,
};

/// What a target holds of bytes: it panics where that is not so.
type Holds = fn(&[u8]);

const TARGETS: [(&str, Holds); 14] = [
    ("answers", answers::holds),
    ("baggage_forwarded", baggage_forwarded::holds),
    ("cached", cached::holds),
    ("certificates", certificates::holds),
    ("connect_request", connect_request::holds),
    ("detect", detect::holds),
    ("discovered", discovered::holds),
    ("heads", heads::holds),
    ("lowering", lowering::holds),
    ("networks", networks::holds),
    ("requests", requests::holds),
    ("routing", routing::holds),
    ("said", said::holds),
    ("scalars", scalars::holds),
];

/// How long one seed may take: a parser that never ends must not hold up the tests. `make fuzz` gives 5 s to a release
/// build on a machine of its own.
const LIMIT: Duration = Duration::from_secs(30);

#[test]
fn every_seed_holds_what_its_target_holds() -> io::Result<()> {
    for (name, holds) in TARGETS {
        let seeds = entries(&fuzz().join("seeds").join(name))?;
        assert!(!seeds.is_empty(), "{name} has no seed");
        for seed in seeds {
            replay(holds, &seed, fs::read(&seed)?);
        }
    }
    Ok(())
}

/// All seeds of `scalars` name one field; each of their texts is another's value too.
#[test]
fn every_value_of_the_seeds_may_stand_in_every_field() -> io::Result<()> {
    let fields = include_str!("../manifests/scalars.yaml").matches("@{").count();
    assert!(fields > 5, "{fields} fields");
    for seed in entries(&fuzz().join("seeds/scalars"))? {
        for field in 0..fields {
            let mut bytes = fs::read(&seed)?;
            bytes[0] = u8::try_from(field).expect("a byte names a field");
            replay(scalars::holds, &seed, bytes);
        }
    }
    Ok(())
}

#[test]
fn every_fuzz_target_is_replayed() -> io::Result<()> {
    let replayed: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    let names = |folder: &str| -> io::Result<BTreeSet<String>> {
        let files = entries(&fuzz().join(folder))?;
        Ok(files.iter().filter_map(|file| Some(file.file_stem()?.to_string_lossy().into_owned())).collect())
    };
    assert_eq!(names("targets")?, replayed);
    assert_eq!(names("seeds")?, replayed);
    let manifest = fs::read_to_string(fuzz().join("Cargo.toml"))?;
    let built = manifest.split("\n[[bin]]\n").skip(1).filter_map(|bin| bin.split('"').nth(1));
    assert_eq!(built.map(str::to_owned).collect::<BTreeSet<_>>(), replayed);
    for name in replayed {
        let target = fs::read_to_string(fuzz().join(format!("targets/{name}.rs")))?;
        assert!(target.contains(&format!("inputs::{name}::holds(bytes)")), "{name} looks for something else");
    }
    Ok(())
}

/// Puts one seed to its target, on a thread that is not waited for longer than the limit.
fn replay(holds: Holds, seed: &Path, bytes: Vec<u8>) {
    let (alive, ended) = channel::<()>();
    let run = thread::spawn(move || {
        let _alive = alive;
        holds(&bytes);
    });
    // Nothing is ever sent: the channel closes when the thread ends, however it ends.
    assert_eq!(
        ended.recv_timeout(LIMIT),
        Err(RecvTimeoutError::Disconnected),
        "{} takes too long",
        seed.display()
    );
    assert!(run.join().is_ok(), "{}: see the panic above", seed.display());
}

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz")
}

/// What is in a folder, in order.
fn entries(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    found.sort();
    Ok(found)
}
