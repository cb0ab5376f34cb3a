package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strings"

	"github.com/spf13/cobra"

	"github.com/conclavehq/conclave/cmd/conclave/internal/supervise"
)

// commandArgs wants NAME -- COMMAND; example is one that is right.
func commandArgs(example string) cobra.PositionalArgs {
	hint := "such as: " + example
	return func(cmd *cobra.Command, args []string) error {
		dash := cmd.ArgsLenAtDash()
		switch {
		case len(args) == 0 || dash == 0:
			return usage("invalid_arguments", hint, "NAME is missing")
		case dash > 1 || (dash < 0 && len(args) > 1):
			return usage("invalid_arguments", hint, "unexpected argument %q: the command must follow --", args[1])
		case len(args) == 1:
			return usage("invalid_arguments", hint, "the command is missing: it must follow --")
		}
		return nil
	}
}

// maybeCommandArgs wants NAME and allows a command behind --.
func maybeCommandArgs(example string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == 1 && cmd.ArgsLenAtDash() < 0 {
			return nil
		}
		return commandArgs(example)(cmd, args)
	}
}

// commandConfig looks the command up, if there is one, before anything is asked of
// the cluster.
func (a *app) commandConfig(argv []string) (*supervise.Config, error) {
	cfg := &supervise.Config{Args: argv, Notify: a.note, GuardArgs: []string{roleGuard}, StubArgs: []string{roleStub}}
	if len(argv) == 0 {
		return cfg, nil
	}
	var err error
	if cfg.Path, err = exec.LookPath(argv[0]); err != nil && !errors.Is(err, exec.ErrDot) {
		return nil, notRunnable(argv[0], err)
	}
	for _, s := range []struct {
		stream any
		to     **os.File
	}{{a.stdin, &cfg.Stdin}, {a.stdout, &cfg.Stdout}, {a.stderr, &cfg.Stderr}} {
		if *s.to, err = file(s.stream); err != nil {
			return nil, err
		}
	}
	return cfg, nil
}

func notRunnable(command string, err error) *Error {
	e := &Error{Exit: exitNotRunnable, Code: "failed_precondition", Reason: "not_executable", cause: err,
		Message: fmt.Sprintf("command %q cannot be executed: %v", command, why(err))}
	switch {
	case errors.Is(err, exec.ErrNotFound), errors.Is(err, fs.ErrNotExist):
		e.Exit, e.Code, e.Reason = exitNoCommand, "not_found", "no_command"
		e.Message = fmt.Sprintf("command %q not found", command)
	case errors.Is(err, fs.ErrPermission):
		e.Hint = "chmod +x " + command
	}
	return e
}

// why is what the system said, without what is said already.
func why(err error) error {
	if lookup, ok := errors.AsType[*exec.Error](err); ok {
		return lookup.Err
	}
	return err
}

// withoutOwn leaves out what an outer command under ownership was given.
func withoutOwn(env []string) []string {
	out := make([]string, 0, len(env)+4)
	for _, kv := range env {
		switch name, _, _ := strings.Cut(kv, "="); name {
		case "CONCLAVE_NAME", "CONCLAVE_TOKEN", "CONCLAVE_SESSION", "CONCLAVE_OWNER", "CONCLAVE_GENERATION":
		default:
			out = append(out, kv)
		}
	}
	return out
}
