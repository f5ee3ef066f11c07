//! The program `orchion`.

fn main() -> std::process::ExitCode {
    orchion::main()
}
