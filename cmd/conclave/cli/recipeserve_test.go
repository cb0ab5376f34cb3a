//go:build linux

package cli_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// apartConfig runs every standard recipe in a process of its own.
const apartConfig = `recipes:
  lock: {mode: subprocess}
  election: {mode: subprocess}
  barrier: {mode: subprocess}
  queue: {mode: subprocess}
  discovery: {mode: subprocess}
  config: {mode: subprocess}
`

// Where a recipe runs makes no difference to whoever uses it: scripts that were
// written for recipes in the host's process run on processes of their own too.
func TestScriptsWithRecipesApart(t *testing.T) {
	t.Parallel()
	p := scriptParams()
	for _, name := range []string{"barriers", "config", "elections", "locks", "lockrun", "queues", "queuework", "services"} {
		p.Files = append(p.Files, filepath.Join("testdata", "script", name+".txtar"))
	}
	p.Cmds["dev"] = func(ts *testscript.TestScript, neg bool, args []string) {
		file := filepath.Join(ts.Getenv("WORK"), ".apart.yaml")
		ts.Check(os.WriteFile(file, []byte(apartConfig), 0o600))
		scriptDev(ts, neg, append([]string{"--config", file}, args...))
	}
	testscript.Run(t, p)
}

func TestRecipesApart(t *testing.T) {
	t.Parallel()
	p := scriptParams()
	p.Dir = "testdata/apart"
	p.Cmds["killrecipe"] = scriptKillRecipe
	p.Cmds["awaitfile"] = scriptAwaitFile
	testscript.Run(t, p)
}

// scriptKillRecipe kills the process of a standard recipe of the script's own host.
func scriptKillRecipe(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: killrecipe NAME")
	}
	all, err := filepath.Glob("/proc/[0-9]*")
	ts.Check(err)
	for _, dir := range all {
		cmdline, err := os.ReadFile(filepath.Join(dir, "cmdline"))
		if err != nil || !strings.HasSuffix(string(cmdline), "\x00__recipe\x00"+args[0]+"\x00") {
			continue
		}
		status, err := os.ReadFile(filepath.Join(dir, "status"))
		parent := regexp.MustCompile(`\nPPid:\t(\d+)\n`).FindSubmatch(status)
		if err != nil || parent == nil {
			continue // it has ended meanwhile
		}
		host, err := os.ReadFile("/proc/" + string(parent[1]) + "/environ")
		if err != nil || !strings.Contains("\x00"+string(host), "\x00XDG_CACHE_HOME="+ts.Getenv("XDG_CACHE_HOME")+"\x00") {
			continue // another script's
		}
		pid, err := strconv.Atoi(filepath.Base(dir))
		ts.Check(err)
		ts.Check(syscall.Kill(pid, syscall.SIGKILL))
		return
	}
	ts.Fatalf("no process of recipe %s", args[0])
}

// scriptAwaitFile waits until there is a file.
func scriptAwaitFile(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: awaitfile FILE")
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); ; <-tick.C {
		if _, err := os.Stat(ts.MkAbs(args[0])); err == nil {
			return
		}
		if time.Now().After(end) {
			ts.Fatalf("there is no %s", args[0])
		}
	}
}
