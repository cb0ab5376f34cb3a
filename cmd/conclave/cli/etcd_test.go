//go:build linux

package cli_test

import (
	"os"
	"path/filepath"

	"github.com/rogpeppe/go-internal/testscript"
)

// scriptServe starts `conclave serve` for the rest of the script and sets API and
// ETCD to its addresses.
func scriptServe(ts *testscript.TestScript, neg bool, args []string) {
	if neg {
		ts.Fatalf("unsupported: ! serve")
	}
	startHost(ts, append([]string{"serve"}, args...))
}

// scriptFreeAddr sets a variable to a host:port that nobody listens on.
func scriptFreeAddr(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: freeaddr VAR")
	}
	addr, err := lowAddr()
	ts.Check(err)
	ts.Setenv(args[0], addr)
}

// scriptV2Data unpacks a data directory with v2 keys, which etcd 3.4 left.
func scriptV2Data(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: v2data DIR")
	}
	source, err := filepath.Abs("../internal/importer/testdata/etcd-3.4-v2.tar.gz")
	ts.Check(err)
	dir := ts.MkAbs(args[0])
	ts.Check(os.MkdirAll(dir, 0o700))
	ts.Check(ts.Exec("tar", "xzf", source, "-C", dir))
}
