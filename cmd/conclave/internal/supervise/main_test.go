//go:build linux

package supervise_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/conclavehq/conclave/cmd/conclave/internal/supervise"
)

// The test binary plays every process of a supervised command.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "play-guard":
			orders, acks := supervise.GuardFiles()
			os.Exit(supervise.Guard(orders, acks, writeWill))
		case "play-stub":
			os.Exit(supervise.Stub(os.Args[2:]))
		case "play-wrapper":
			os.Exit(wrapper(os.Args[2:]))
		case "play-many":
			os.Exit(many(os.Args[2:]))
		case "play-shell":
			os.Exit(shell(os.Args[2:]))
		case "play-foreground":
			os.Exit(printForeground("command"))
		}
	}
	// Under the race detector every process of a test would wait a second before it ends.
	if err := os.Setenv("GORACE", "atexit_sleep_ms=0"); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m)
}

// writeWill carries a will out: it is the name of a file to write.
func writeWill(will string) { _ = os.WriteFile(will, nil, 0o600) }

// wrapper runs a command under an ownership that is valid for a given time. With
// -renew it is renewed all the time.
func wrapper(args []string) int {
	fs := flag.NewFlagSet("wrapper", flag.ExitOnError)
	valid := fs.Duration("valid", time.Hour, "")
	after := fs.String("after", "", "renewals go on until this file exists; valid and revoked count from then")
	grace := fs.Duration("grace", 0, "")
	revoked := fs.Duration("revoked", time.Hour, "")
	lostGrace := fs.Duration("lost-grace", 0, "")
	leftover := fs.Duration("leftover", 50*time.Millisecond, "")
	will := fs.String("will", "", "file that the guard writes when the wrapper died")
	asked := fs.Bool("asked", false, "say afterwards whether the end was asked for")
	foreground := fs.Bool("foreground", false, "say afterwards who has the terminal")
	_ = fs.Parse(args)

	lost, lose := context.WithCancelCause(context.Background())
	defer lose(nil)
	var end time.Time
	remaining := func() time.Duration {
		if end.IsZero() {
			if _, err := os.Stat(*after); *after != "" && err != nil {
				return time.Hour
			}
			end = time.Now().Add(*valid)
			time.AfterFunc(min(*valid, *revoked), func() { lose(errors.New("expired")) })
		}
		return time.Until(end)
	}
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT, unix.SIGUSR1, unix.SIGUSR2)
	g, err := supervise.StartGuard([]string{"play-guard"}, *will)
	if err != nil {
		fmt.Fprintln(os.Stderr, "wrapper:", err)
		return 99
	}
	res, err := supervise.Run(supervise.Config{
		Path: fs.Arg(0), Args: fs.Args(), Env: os.Environ(),
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
		Lost:      lost,
		LostGrace: func(error) time.Duration { return *lostGrace },
		Remaining: remaining,
		Grace:     *grace, Leftover: *leftover, Interval: 20 * time.Millisecond,
		Signals:   signals,
		Notify:    func(line string) { fmt.Fprintln(os.Stderr, "wrapper:", line) },
		Guard:     g,
		GuardArgs: []string{"play-guard"}, StubArgs: []string{"play-stub"},
	})
	if *foreground {
		printForeground("wrapper")
	}
	if *asked {
		fmt.Println("asked:", res.Asked)
	}
	switch {
	case err != nil:
		fmt.Fprintln(os.Stderr, "wrapper:", err)
		return 99
	case res.Lost:
		return 7
	}
	return res.Code
}

// many runs a command several times at once, each with its own number as the last
// argument, and forwards TERM to each when it gets one.
func many(args []string) int {
	n, err := strconv.Atoi(args[0])
	if err != nil {
		return 99
	}
	term := make(chan os.Signal, 1)
	signal.Notify(term, unix.SIGTERM)
	var all sync.WaitGroup
	var forward []chan os.Signal
	failed := make(chan error, n)
	for i := range n {
		signals := make(chan os.Signal, 1)
		forward = append(forward, signals)
		all.Go(func() {
			_, err := supervise.Run(supervise.Config{
				Path: args[1], Args: append(slices.Clone(args[1:]), strconv.Itoa(i)), Env: os.Environ(), Stdout: os.Stdout, Stderr: os.Stderr,
				Lost: context.Background(), LostGrace: func(error) time.Duration { return 0 }, Remaining: func() time.Duration { return time.Hour },
				Interval: 20 * time.Millisecond, Signals: signals,
				GuardArgs: []string{"play-guard"}, StubArgs: []string{"play-stub"},
			})
			failed <- err
		})
	}
	sig := <-term
	for _, signals := range forward {
		signals <- sig
	}
	all.Wait()
	for range n {
		if err := <-failed; err != nil {
			fmt.Fprintln(os.Stderr, "many:", err)
			return 99
		}
	}
	return 0
}

func printForeground(who string) int {
	fg, err := unix.IoctlGetInt(0, unix.TIOCGPGRP)
	if err != nil {
		fmt.Println(who, err)
		return 1
	}
	fmt.Println(who, "foreground:", fg == unix.Getpgrp())
	return 0
}

// shell plays a shell with one job: it runs args in a group of its own in the
// foreground, and when the job is stopped brings it back to the foreground.
func shell(args []string) int {
	signal.Ignore(unix.SIGTTOU)
	proc, err := os.StartProcess("/proc/self/exe", append([]string{os.Args[0]}, args...), &os.ProcAttr{
		Env: os.Environ(), Files: []*os.File{os.Stdin, os.Stdout, os.Stderr},
		Sys: &syscall.SysProcAttr{Setpgid: true, Foreground: true},
	})
	if err != nil {
		fmt.Println("shell:", err)
		return 1
	}
	for {
		var ws unix.WaitStatus
		if _, err := unix.Wait4(proc.Pid, &ws, unix.WUNTRACED, nil); err != nil {
			fmt.Println("shell:", err)
			return 1
		}
		if !ws.Stopped() {
			fmt.Println("shell: exit", ws.ExitStatus())
			return 0
		}
		fg, err := unix.IoctlGetInt(0, unix.TIOCGPGRP)
		fmt.Println("shell: job stopped, terminal back:", fg == proc.Pid, err)
		_ = unix.IoctlSetPointerInt(0, unix.TIOCSPGRP, proc.Pid)
		_ = unix.Kill(-proc.Pid, unix.SIGCONT)
	}
}
