// Package scripts holds callers that need nothing but an HTTP client.
package scripts

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/conclavehq/conclave/core/host"
	"github.com/conclavehq/conclave/recipes/lock"
)

const patience = time.Minute

// Two runs of a script at once run one job after the other, the later one with
// the larger token, and leave nothing behind.
func TestScriptsTakeTurns(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	api := start(ctx, t)
	for _, script := range [][]string{{"sh", "lock.sh"}, {"python3", "lock.py"}} {
		t.Run(script[1], func(t *testing.T) {
			for _, tool := range []string{script[0], "curl"} {
				if _, err := exec.LookPath(tool); err != nil {
					t.Skipf("skipped: there is no %s on this machine", tool)
				}
			}
			log := filepath.Join(t.TempDir(), "log")
			job := `echo begin $CONCLAVE_TOKEN >>"$0"; sleep 0.1; echo end $CONCLAVE_TOKEN >>"$0"`
			run := func() *exec.Cmd {
				cmd := exec.CommandContext(ctx, script[0], script[1], "turns/"+script[1], "sh", "-c", job, log)
				cmd.Env = append(os.Environ(), "CONCLAVE_API="+api)
				cmd.Stderr = os.Stderr
				return cmd
			}
			one, other := run(), run()
			for _, cmd := range []*exec.Cmd{one, other} {
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
			}
			for _, cmd := range []*exec.Cmd{one, other} {
				if err := cmd.Wait(); err != nil {
					t.Error(err)
				}
			}
			b, err := os.ReadFile(log)
			if err != nil {
				t.Fatal(err)
			}
			words := strings.Fields(string(b))
			if len(words) != 8 || words[0] != "begin" || words[2] != "end" || words[1] != words[3] || words[4] != "begin" || words[5] != words[7] {
				t.Errorf("the jobs ran as %q", words)
			}
		})
	}
}

// A script's exit code is its job's.
func TestScriptsPassTheExitCode(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	api := start(ctx, t)
	for _, script := range [][]string{{"sh", "lock.sh"}, {"python3", "lock.py"}} {
		if !slices.ContainsFunc([]string{script[0]}, func(tool string) bool { _, err := exec.LookPath(tool); return err == nil }) {
			t.Logf("skipped: there is no %s on this machine", script[0])
			continue
		}
		cmd := exec.CommandContext(ctx, script[0], script[1], "code", "sh", "-c", "exit 3")
		cmd.Env = append(os.Environ(), "CONCLAVE_API="+api)
		if err := cmd.Run(); cmd.ProcessState.ExitCode() != 3 {
			t.Errorf("%s: %v", script[1], err)
		}
	}
}

func start(ctx context.Context, t *testing.T) (api string) {
	h, err := host.New(host.Config{
		DataDir: t.TempDir(), API: host.API{Listen: "127.0.0.1:0"},
		Etcd: host.Etcd{ListenClient: "127.0.0.1:0", ListenPeer: "127.0.0.1:0", Fast: true, NoFsync: true},
	}, host.WithRecipe(lock.Recipe{}))
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Start(ctx); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return h.API()
}
