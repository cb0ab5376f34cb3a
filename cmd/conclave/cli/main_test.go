//go:build linux

package cli_test

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"go.uber.org/goleak"

	"github.com/conclavehq/conclave/cmd/conclave/cli"
)

// The test binary plays conclave, in scripts and in Go tests.
func TestMain(m *testing.M) {
	testscript.Main(checked{m}, map[string]func(){
		"conclave": func() {
			os.Exit(cli.Run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr, os.Environ()))
		},
	})
}

type checked struct{ m *testing.M }

func (c checked) Run() int {
	// Under the race detector every process of a test would wait a second before it ends.
	if err := os.Setenv("GORACE", "atexit_sleep_ms=0"); err != nil {
		return 1
	}
	// Where the interrupt is ignored, as behind a shell's &, processes of tests would ignore it too.
	if signal.Ignored(os.Interrupt) {
		signal.Notify(make(chan os.Signal, 1), os.Interrupt)
	}
	// Tests here wait for other processes most of the time. What was asked for on the
	// command line is read later, and counts.
	if err := flag.Set("test.parallel", strconv.Itoa(3*runtime.GOMAXPROCS(0))); err != nil {
		return 1
	}
	code := c.m.Run()
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, "goroutines left:", err)
		return 1
	}
	return code
}

// patience bounds waiting for a condition that must come true. It is no
// measurement: a busy machine may take long.
const patience = 60 * time.Second

func TestScripts(t *testing.T) {
	t.Parallel()
	p := scriptParams()
	p.Dir = "testdata/script"
	testscript.Run(t, p)
}

// scriptParams is what every script has.
func scriptParams() testscript.Params {
	return testscript.Params{
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("XDG_CACHE_HOME", filepath.Join(env.WorkDir, ".cache"))
			env.Setenv("XDG_CONFIG_HOME", filepath.Join(env.WorkDir, ".config"))
			env.Setenv("GORACE", os.Getenv("GORACE"))
			// A busy machine may take long to check a password.
			env.Setenv("ETCDCTL_DIAL_TIMEOUT", "60s")
			env.Setenv("ETCDCTL_COMMAND_TIMEOUT", "60s")
			env.Setenv("LONG", strings.Repeat("x", 300))
			env.Setenv("CONTROL", "a\x01b")
			env.Setenv("INVALID", "a\xffb")
			return nil
		},
		Condition: func(cond string) (bool, error) {
			if cond == "slow" {
				return os.Getenv("CONCLAVE_SLOW") != "", nil
			}
			return false, fmt.Errorf("unknown condition %q", cond)
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"dev":         scriptDev,
			"serve":       scriptServe,
			"freeaddr":    scriptFreeAddr,
			"v2data":      scriptV2Data,
			"stopdev":     scriptStopDev,
			"until":       scriptUntil,
			"capture":     scriptCapture,
			"fails":       scriptFails,
			"portof":      scriptPortOf,
			"trial":       scriptTrial,
			"trialfolder": scriptTrialFolder,
			"killplugin":  scriptKillPlugin,
			"freeport":    scriptFreePort,
			"within":      scriptWithin,
		},
	}
}

// scriptDev starts `conclave dev` on free ports for the rest of the script and
// sets API and ETCD to its addresses.
func scriptDev(ts *testscript.TestScript, neg bool, args []string) {
	if neg {
		ts.Fatalf("unsupported: ! dev")
	}
	startHost(ts, append(freeDev(), args...))
}

// startHost runs conclave for the rest of the script, as a host.
func startHost(ts *testscript.TestScript, args []string) {
	cmd := scriptCommand(ts, "conclave", args)
	stderr := new(strings.Builder)
	cmd.Stderr = stderr
	out, err := cmd.StdoutPipe()
	ts.Check(err)
	ts.Check(cmd.Start())
	end := sync.OnceFunc(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		ts.Logf("dev: %s", stderr)
	})
	ts.Defer(end)
	ts.Setenv("DEV_PID", strconv.Itoa(cmd.Process.Pid))
	devs.Store(cmd.Process.Pid, end)
	line, err := bufio.NewReader(out).ReadString('\n')
	ts.Check(err)
	m := readyLine.FindStringSubmatch(line)
	if m == nil {
		ts.Fatalf("dev printed %q", line)
	}
	ts.Setenv("API", m[1])
	ts.Setenv("ETCD", m[2])
}

// devs are what ends the devs of all scripts, by their pids.
var devs sync.Map

// scriptStopDev ends the dev that was started last, and waits until it is gone.
func scriptStopDev(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) > 0 {
		ts.Fatalf("usage: stopdev")
	}
	pid, err := strconv.Atoi(ts.Getenv("DEV_PID"))
	ts.Check(err)
	if end, ok := devs.Load(pid); ok {
		end.(func())() //nolint:forcetypeassert // scriptDev stores nothing else
	}
}

// freeDev is a dev on free ports.
func freeDev() []string {
	return []string{"dev", "--api-addr", "127.0.0.1:0", "--client-addr", "127.0.0.1:0", "--peer-addr", "127.0.0.1:0"}
}

// lowAddr returns an address on which nobody listens, at a port that no outgoing
// connection is given: it stays free for whoever listens there later, or again.
func lowAddr() (string, error) {
	for {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 10_000+rand.IntN(22_768)))
		if errors.Is(err, syscall.EADDRINUSE) {
			continue
		}
		if err != nil {
			return "", err
		}
		return l.Addr().String(), l.Close()
	}
}

var readyLine = regexp.MustCompile(`^ready api=(\S+) etcd=(\S+) ui=\S+/ui/\n$`)

// scriptUntil runs a command that does not end by itself until a line of its
// output matches, then interrupts it.
func scriptUntil(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: until regexp command...")
	}
	want := regexp.MustCompile(args[0])
	cmd := scriptCommand(ts, args[1], args[2:])
	stderr := new(strings.Builder)
	cmd.Stderr = stderr
	out, err := cmd.StdoutPipe()
	ts.Check(err)
	ts.Check(cmd.Start())
	giveUp := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
	defer giveUp.Stop()
	seen := false
	for lines := bufio.NewScanner(out); !seen && lines.Scan(); {
		ts.Logf("%s", lines.Text())
		seen = want.MatchString(lines.Text())
	}
	_ = cmd.Process.Signal(os.Interrupt)
	_, _ = io.Copy(io.Discard, out)
	_ = cmd.Wait()
	if !seen {
		ts.Fatalf("%q never printed; stderr: %s", args[0], stderr)
	}
}

// scriptCapture sets a variable to what the regexp's group matches in the last output.
func scriptCapture(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: capture VAR regexp")
	}
	m := regexp.MustCompile(args[1]).FindStringSubmatch(ts.ReadFile("stdout"))
	if len(m) != 2 {
		ts.Fatalf("%q does not match", args[1])
	}
	ts.Setenv(args[0], m[1])
}

// scriptFails runs a command that must end with the given exit code.
func scriptFails(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: fails code command...")
	}
	got := 0
	var exit *exec.ExitError
	if err := ts.Exec(args[1], args[2:]...); errors.As(err, &exit) {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if strconv.Itoa(got) != args[0] {
		ts.Fatalf("exit code %d, want %s; stderr: %s", got, args[0], ts.ReadFile("stderr"))
	}
}

// scriptPortOf sets PORT to the port of a URL.
func scriptPortOf(ts *testscript.TestScript, _ bool, args []string) {
	ts.Setenv("PORT", args[0][strings.LastIndexByte(args[0], ':')+1:])
}

// scriptWithin is fails for a command that must be quick about it: on a machine that
// is busy, ten times slower.
func scriptWithin(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 4 || args[1] != "fails" {
		ts.Fatalf("usage: within duration fails code command...")
	}
	limit, err := time.ParseDuration(args[0])
	ts.Check(err)
	began := time.Now()
	scriptFails(ts, false, args[2:])
	switch took := time.Since(began); {
	case took > 10*limit:
		ts.Fatalf("it took %v", took)
	case took > limit:
		ts.Logf("it took %v, which is not quick", took)
	}
}

// scriptFreePort sets a variable to a port that nobody listens on.
func scriptFreePort(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: freeport VAR")
	}
	addr, err := lowAddr()
	ts.Check(err)
	_, port, err := net.SplitHostPort(addr)
	ts.Check(err)
	ts.Setenv(args[0], port)
}

func scriptCommand(ts *testscript.TestScript, name string, args []string) *exec.Cmd {
	path, err := exec.LookPath(name)
	ts.Check(err)
	cmd := exec.Command(path, args...)
	cmd.Dir = ts.Getenv("WORK")
	for _, v := range []string{"PATH", "HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "ETCDCTL_ENDPOINTS", "ETCDCTL_DIAL_TIMEOUT",
		"ETCDCTL_COMMAND_TIMEOUT", "CONCLAVE_ENDPOINTS", "CONCLAVE_API", "API", "ETCD", "GORACE"} {
		if value := ts.Getenv(v); value != "" {
			cmd.Env = append(cmd.Env, v+"="+value)
		}
	}
	return cmd
}
