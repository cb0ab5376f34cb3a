package coretest_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/conclavehq/conclave/core/coretest"
)

var etcd *coretest.Etcd

func TestMain(m *testing.M) { coretest.Main(m, &etcd, coretest.WithChildren(children())) }

const leakEnv = "CORETEST_LEAK"

// TestLeak leaves a goroutine behind in the process that TestMainFailsWhenAGoroutineIsLeft starts; elsewhere it has nothing to do.
func TestLeak(t *testing.T) {
	if os.Getenv(leakEnv) == "" {
		return
	}
	t.Log("leaks")
	go func() { select {} }()
}

func TestMainFailsWhenAGoroutineIsLeft(t *testing.T) {
	for env, wantFail := range map[string]bool{leakEnv + "=": false, leakEnv + "=1": true} {
		self, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), self, "-test.run=^TestLeak$")
		cmd.Env = append(os.Environ(), env)
		out, err := cmd.CombinedOutput()
		if failed := err != nil; failed != wantFail {
			t.Errorf("%s: %v\n%s", env, err, out)
		}
		if named := strings.Contains(string(out), "TestLeak.func1"); named != wantFail {
			t.Errorf("%s: the goroutine is named: %t\n%s", env, named, out)
		}
	}
}
