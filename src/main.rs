//! The program: everything is in the library, where tests reach it.

#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

fn main() -> std::process::ExitCode {
    tetherlet::cli::main()
}
