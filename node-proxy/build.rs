//! How the daemon's binary is linked. Nothing is generated here.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // 20 KiB of relocations instead of 540, all of which the loader reads, so that they stay resident (needs glibc 2.36).
    if std::env::var("CARGO_CFG_TARGET_ENV").is_ok_and(|libc| libc == "gnu") {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}
