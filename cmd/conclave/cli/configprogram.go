package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// after does what follows a rendering that succeeded.
func (r *render) after(ctx context.Context, changed bool) error {
	switch {
	case len(r.argv) == 0:
		return nil
	case r.sig == nil && !r.restart:
		if !changed {
			return nil
		}
		if err := r.command(ctx); err != nil {
			r.note(fmt.Sprintf("the command failed: %v", err))
		}
		return ctx.Err()
	case r.program == nil:
	case !changed:
		return nil
	case r.restart:
		r.program.end(r.grace.value)
	default:
		// A program that has ended just now is seen where its end is waited for.
		_ = r.program.cmd.Process.Signal(r.sig)
		return nil
	}
	return r.start()
}

// command runs the command to its end.
func (r *render) command(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, r.argv[0], r.argv[1:]...)
	cmd.Env = r.environ
	cmd.Stdin, cmd.Stdout, cmd.Stderr = r.stdin, r.stdout, r.stderr
	cmd.Cancel, cmd.WaitDelay = func() error { return terminate(cmd.Process) }, r.grace.value
	return exitOfCommand(cmd.Run())
}

// exitOfCommand makes a command's exit code that of this one.
func exitOfCommand(err error) error {
	exit, ok := errors.AsType[*exec.ExitError](err)
	if !ok {
		return err
	}
	if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return exitError(128 + int(status.Signal()))
	}
	return exitError(exit.ExitCode())
}

// A program runs all the time. A nil one does not run.
type program struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
	err  error         // how, once done is closed
}

// start starts the program.
func (r *render) start() error {
	p := &program{cmd: exec.CommandContext(context.Background(), r.argv[0], r.argv[1:]...), done: make(chan struct{})}
	p.cmd.Env = r.environ
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = r.stdin, r.stdout, r.stderr
	if err := p.cmd.Start(); err != nil {
		return notRunnable(r.argv[0], err)
	}
	go func() {
		defer close(p.done)
		p.err = p.cmd.Wait()
	}()
	r.program = p
	return nil
}

// exited is closed when the program has ended by itself.
func (p *program) exited() <-chan struct{} {
	if p == nil {
		return nil
	}
	return p.done
}

// code is the program's exit code as an error of this command: never nil.
func (p *program) code() error {
	if err := exitOfCommand(p.err); err != nil {
		return err
	}
	return exitError(0)
}

// end asks the program to end, and kills it after the grace.
func (p *program) end(grace time.Duration) {
	if p == nil {
		return
	}
	if err := terminate(p.cmd.Process); errors.Is(err, os.ErrProcessDone) {
		<-p.done
		return
	}
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-p.done:
	case <-timer.C:
		_ = p.cmd.Process.Kill()
		<-p.done
	}
}
