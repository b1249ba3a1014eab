//! `sqlx::migrate!` reads the directory at compile time, which cargo cannot see: without this line a new migration
//! would not be in the binary.
fn main() {
    println!("cargo:rerun-if-changed=migrations");
}
