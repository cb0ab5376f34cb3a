//go:build unix

package embedded_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/conclavehq/conclave/core/coretest"
	"github.com/conclavehq/conclave/core/embedded"
)

const (
	dirEnv  = "EMBEDDED_DIR"
	exitEnv = "EMBEDDED_EXIT"
)

func children() map[string]func() int {
	return map[string]func() int{"holder": holder, "diskfull": diskFull, "try": try}
}

// holder runs a member until its input ends.
func holder() int {
	m, err := embedded.Start(context.Background(), config(os.Getenv(dirEnv)))
	if err != nil {
		fmt.Println("error", err)
		return 1
	}
	fmt.Println("holds")
	bufio.NewScanner(os.Stdin).Scan()
	if err := m.Close(); err != nil {
		fmt.Println("error", err)
		return 1
	}
	return 0
}

// try starts a member and tells how that went.
func try() int {
	m, err := embedded.Start(context.Background(), config(os.Getenv(dirEnv)))
	if err != nil {
		fmt.Println("error", err)
		return 0
	}
	fmt.Println("started")
	if err := m.Close(); err != nil {
		return 1
	}
	return 0
}

// diskFull takes the disk away under a running member: no file may grow or be written beyond its first page.
func diskFull() int {
	signal.Ignore(syscall.SIGXFSZ) // else the limit is a signal, not an error of write
	cfg := config(os.Getenv(dirEnv))
	cfg.OnFatal = func(reason string) {
		fmt.Println("fatal", reason)
		if code, err := strconv.Atoi(os.Getenv(exitEnv)); err == nil {
			os.Exit(code)
		}
	}
	m, err := embedded.Start(context.Background(), cfg)
	if err != nil {
		fmt.Println("error", err)
		return 90
	}
	defer fmt.Println("deferred")
	if err := limitFiles(); err != nil {
		fmt.Println("error", err)
		return 91
	}
	value := strings.Repeat("x", 64<<10)
	for range 1000 {
		if _, err := m.Client().Put(context.Background(), "k", value); err != nil {
			fmt.Println("put", err)
		}
	}
	return 92
}

// limitFiles bounds every file that this process writes to from now on to one page.
func limitFiles() error {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		return err
	}
	limit.Cur = 4096
	return syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit)
}

func TestDataDirHeldByAnotherProcess(t *testing.T) {
	dir := t.TempDir()
	p := coretest.Child(t, "holder", dirEnv+"="+dir)
	p.ExpectLine("holds")
	refuse(t, config(dir), embedded.ErrDataDirInUse, dir, "process "+strconv.Itoa(p.Pid()))

	p.Stop() // a holder that does not run is still the holder
	refuse(t, config(dir), embedded.ErrDataDirInUse, dir)
	p.Kill()
	start(t, config(dir)) // no crash leaves the claim behind
}

func TestDataDirHeldByThisProcess(t *testing.T) {
	dir := t.TempDir()
	m := start(t, config(dir))
	refuse(t, config(dir), embedded.ErrDataDirInUse, dir, "process "+strconv.Itoa(os.Getpid()))
	if err := embedded.Free(dir); !errors.Is(err, embedded.ErrDataDirInUse) {
		t.Errorf("a directory in use is free: %v", err)
	}
	if _, err := m.Client().Put(t.Context(), "k", "v"); err != nil {
		t.Errorf("the holder suffered: %v", err)
	}
	closeSoon(t, m)
	if err := embedded.Free(dir); err != nil {
		t.Error(err)
	}
	start(t, config(dir))
}

func TestDiskFullRunsOnFatalAndEndsTheProcess(t *testing.T) {
	for name, tc := range map[string]struct {
		env  string
		code int
	}{
		"exit code of etcd":    {"", embedded.FatalExitCode},
		"exit code of OnFatal": {exitEnv + "=75", 75},
	} {
		t.Run(name, func(t *testing.T) {
			p := coretest.Child(t, "diskfull", dirEnv+"="+t.TempDir(), tc.env)
			if reason := p.ExpectLine("fatal"); !strings.Contains(reason, syscall.EFBIG.Error()) {
				t.Errorf("reason %q does not say %q", reason, syscall.EFBIG)
			}
			code, err := p.Wait(t.Context())
			if err != nil || code != tc.code {
				t.Errorf("exit code %d, %v; want %d", code, err, tc.code)
			}
			fatal := 0
			for _, line := range p.Output() {
				if strings.HasPrefix(line, "fatal") {
					fatal++
				}
				if line == "deferred" {
					t.Error("the process went on")
				}
			}
			if fatal != 1 {
				t.Errorf("OnFatal ran %d times", fatal)
			}
		})
	}
}
