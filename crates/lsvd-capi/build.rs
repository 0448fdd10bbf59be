//! Names the shared library for the dynamic linker.

fn main() {
    // Programs ask for the library by this name; its number changes when the C ABI breaks, never
    // with the version of the program.
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,liblsvd.so.0");
    // Threads of the library may be running, so dlclose must not take its code away.
    println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
    println!("cargo::rerun-if-changed=build.rs");
}
