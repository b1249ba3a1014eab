#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| vetwatch::fuzzing::customers_csv(input));
