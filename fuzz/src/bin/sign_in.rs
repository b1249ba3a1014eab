#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| vetwatch_partner_center::fuzzing::sign_in(input));
