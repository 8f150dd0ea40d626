"""Scans a TLS port with sslyze and prints each finding of note as a line; nothing when there is none (EDGE X9, X10).

    tls_scan.py HOST PORT
"""

import sys

from sslyze import ScanCommand, Scanner, ServerNetworkLocation, ServerScanRequest

host, port = sys.argv[1:]
FORBIDDEN = {
    ScanCommand.SSL_2_0_CIPHER_SUITES,
    ScanCommand.SSL_3_0_CIPHER_SUITES,
    ScanCommand.TLS_1_0_CIPHER_SUITES,
    ScanCommand.TLS_1_1_CIPHER_SUITES,
}
MODERN = {ScanCommand.TLS_1_2_CIPHER_SUITES, ScanCommand.TLS_1_3_CIPHER_SUITES}
FAULTS = {
    ScanCommand.HEARTBLEED,
    ScanCommand.ROBOT,
    ScanCommand.OPENSSL_CCS_INJECTION,
    ScanCommand.SESSION_RENEGOTIATION,
    ScanCommand.TLS_COMPRESSION,
    ScanCommand.TLS_1_3_EARLY_DATA,
    ScanCommand.TLS_FALLBACK_SCSV,
}

location = ServerNetworkLocation(hostname="localhost", ip_address=host, port=int(port))
scanner = Scanner()
scanner.queue_scans([ServerScanRequest(server_location=location, scan_commands=FORBIDDEN | MODERN | FAULTS)])
scanned = 0
for result in scanner.get_results():
    if result.scan_result is None:
        sys.exit(f"not scanned: {result.connectivity_error_trace}")
    for command in FORBIDDEN | MODERN | FAULTS:
        attempt = getattr(result.scan_result, command.value)
        if attempt.result is None:
            sys.exit(f"{command.value} was not run: {attempt.error_reason} {attempt.error_trace}")
        scanned += 1
        outcome = attempt.result
        if command in FORBIDDEN | MODERN:
            names = [suite.cipher_suite.name for suite in outcome.accepted_cipher_suites]
            if command in FORBIDDEN and names:
                print(f"{command.value}: {names}")
            if command in MODERN and not names:
                print(f"{command.value}: nothing is accepted")
            for name in names:
                is_aead = "GCM" in name or "POLY1305" in name
                is_forward_secret = "ECDHE" in name or command is ScanCommand.TLS_1_3_CIPHER_SUITES
                if not (is_aead and is_forward_secret):
                    print(f"{command.value}: {name}")
    faults = result.scan_result
    for name, found in {
        "heartbleed": faults.heartbleed.result.is_vulnerable_to_heartbleed,
        "robot": "VULNERABLE_" in faults.robot.result.robot_result.value and "NOT_" not in faults.robot.result.robot_result.value,
        "ccs injection": faults.openssl_ccs_injection.result.is_vulnerable_to_ccs_injection,
        "client renegotiation": faults.session_renegotiation.result.is_vulnerable_to_client_renegotiation_dos,
        "insecure renegotiation": not faults.session_renegotiation.result.supports_secure_renegotiation,
        "compression": faults.tls_compression.result.supports_compression,
        "early data": faults.tls_1_3_early_data.result.supports_early_data,
        "no protection against downgrade": not faults.tls_fallback_scsv.result.supports_fallback_scsv,
    }.items():
        if found:
            print(name)
print(f"done: {scanned} scans")
