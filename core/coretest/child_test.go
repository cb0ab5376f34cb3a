//go:build unix

package coretest_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/conclavehq/conclave/core/coretest"
)

// echo repeats its input, after a greeting.
func echo() int {
	fmt.Println("hello", os.Getenv("GREETING"))
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		if in.Text() == "exit" {
			return 7
		}
		fmt.Println("noise")
		fmt.Println("echo", in.Text())
	}
	return 0
}

func TestChildTalksAndExits(t *testing.T) {
	p := coretest.Child(t, "echo", "GREETING=you")
	if got := p.ExpectLine("hello"); got != "you" {
		t.Errorf("greeting %q", got)
	}
	p.Send("a")
	p.Send("b")
	if got := p.ExpectLine("echo"); got != "a" {
		t.Errorf("first echo %q", got)
	}
	if got := p.ExpectLine("echo"); got != "b" {
		t.Errorf("second echo %q", got)
	}
	p.Send("exit")
	if code, err := p.Wait(t.Context()); code != 7 || err != nil {
		t.Errorf("exit code %d, %v", code, err)
	}
	if p.Pid() == os.Getpid() {
		t.Error("the child is this process")
	}
}

func TestStoppedChildIsSilentUntilCont(t *testing.T) {
	p := coretest.Child(t, "echo")
	p.ExpectLine("hello")
	p.Stop()
	lines := len(p.Output())
	p.Send("while stopped")
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := p.Wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("wait for a stopped child: %v", err)
	}
	if got := p.Output()[lines:]; len(got) != 0 {
		t.Errorf("a stopped child wrote %q", got)
	}
	p.Cont()
	if got := p.ExpectLine("echo"); got != "while stopped" {
		t.Errorf("after Cont: %q", got)
	}
}

func TestKillEndsAStoppedChild(t *testing.T) {
	p := coretest.Child(t, "echo")
	p.ExpectLine("hello")
	p.Stop()
	p.Kill()
	if code, err := p.Wait(t.Context()); code != -1 || err != nil {
		t.Errorf("exit code %d, %v", code, err)
	}
	if err := syscall.Kill(p.Pid(), 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("the process is still there: %v", err)
	}
}

// holder holds the FIFO open as long as it lives, and never ends by itself.
func holder() int {
	f, err := os.OpenFile(os.Getenv("FIFO"), os.O_WRONLY, 0)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer f.Close()
	fmt.Println("holds")
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGTERM)
	<-ended
	return 0
}

// parent starts a child of its own.
func parent() int {
	p := coretest.Child(&standIn{}, "holder")
	p.ExpectLine("holds")
	fmt.Println("started")
	<-p.Done()
	return 0
}

// standIn is the testing.TB of a process that runs no test.
type standIn struct{ testing.TB }

func (*standIn) Helper()        {}
func (*standIn) Cleanup(func()) {}

func TestChildrenDieWithTheirParent(t *testing.T) {
	for _, stopped := range []bool{false, true} {
		t.Run(fmt.Sprintf("stopped=%t", stopped), func(t *testing.T) {
			fifo := filepath.Join(t.TempDir(), "fifo")
			if err := syscall.Mkfifo(fifo, 0o600); err != nil {
				t.Fatal(err)
			}
			ended := make(chan error, 1)
			go func() {
				_, err := os.ReadFile(fifo) // until the last writer has ended
				ended <- err
			}()
			p := coretest.Child(t, "parent", "FIFO="+fifo)
			p.ExpectLine("started")
			select {
			case err := <-ended:
				t.Fatalf("the grandchild does not hold the FIFO: %v", err)
			default:
			}
			if stopped {
				p.Stop()
			}
			p.Kill()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
	}
}
