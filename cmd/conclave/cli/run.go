package cli

import (
	"context"
	"errors"
	"io"
	"os"

	"github.com/conclavehq/conclave/cmd/conclave/internal/supervise"
)

// The hidden roles in which this binary is started again to run a command under an
// ownership.
const (
	roleGuard = "__guard"
	roleStub  = "__stub"
)

// Run runs one command line, without the program's name, and returns the exit
// code. The ctx ends commands that wait or serve, as an interrupt does. Env is read
// in place of the process's environment, but for the variables that upstream's
// etcdctl reads by itself; the mounted etcdctl and etcdutl use the process's own
// streams, change ETCDCTL_ variables, and may end the process.
func Run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer, env []string) int {
	if len(args) > 0 {
		switch args[0] {
		case roleGuard:
			orders, acks := supervise.GuardFiles()
			return supervise.Guard(orders, acks, carryOut)
		case roleStub:
			return supervise.Stub(args[1:])
		case roleRecipe:
			return serveRecipe(stderr, args[1:])
		}
	}
	a := &app{stdin: stdin, stdout: stdout, stderr: stderr, environ: env, env: parseEnv(env)}
	if len(args) == 1 && args[0] == roleNode {
		return a.node(ctx)
	}
	if len(args) == 1 && args[0] == roleTestHost {
		return a.serveTestHost(ctx)
	}
	root := a.root()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return ExitOK
	}
	if code, ok := errors.AsType[exitError](err); ok {
		return int(code)
	}
	e := describe(err)
	a.printError(e, outputIn(args))
	return e.Exit
}

// An app is what one command line has: its streams, environment and settings.
type app struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	environ        []string
	env            map[string]string
	flags          globals
}

// parseEnv keeps the last of several equal names, as the system's own lookup does
// not promise; an empty value counts as unset.
func parseEnv(env []string) map[string]string {
	m := make(map[string]string, len(env))
	for _, kv := range env {
		for i := 1; i < len(kv); i++ {
			if kv[i] == '=' {
				if m[kv[:i]] = kv[i+1:]; kv[i+1:] == "" {
					delete(m, kv[:i])
				}
				break
			}
		}
	}
	return m
}

// file returns a stream as the file that a command can be given.
func file(stream any) (*os.File, error) {
	f, ok := stream.(*os.File)
	if !ok {
		return nil, errors.New("a command can only be run with files as its standard streams")
	}
	return f, nil
}
