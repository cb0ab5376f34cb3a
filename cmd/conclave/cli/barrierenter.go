package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/conclavehq/conclave/barrier"
	"github.com/conclavehq/conclave/core/recipe"
)

func (a *app) barrierEnterCommand() *cobra.Command {
	f := entering{waitFlags: newWaitFlags()}
	t := defaultTenure()
	cmd := &cobra.Command{
		Use:   "enter NAME --parties N [flags] -- COMMAND [argument...]",
		Short: "Run a command in a phase that N begin and end together",
		Long: `enter waits until N are there, runs the command, and waits until the commands of all N
have ended; then its own exit code comes through. All must give the same N. When all
have left NAME can be entered again: that is the next generation.

The command finds CONCLAVE_GENERATION in its environment, beside what conclave lock
run gives it, and is guarded in the same way. If one dies before N are there the
others wait for another; with --break-on-loss they exit with 5. One that dies inside
counts as one that has ended.

Exit codes of its own: 5 N are inside already, others are there with another N, the
generation broke, or --wait elapsed; 7 the place was lost while the command ran.`,
		Example: `  conclave barrier enter phase1 --parties 3 -- ./load.sh
  conclave barrier enter phase1 --parties 3 --wait 5m -- ./load.sh
  for phase in load sort merge; do
    conclave barrier enter $phase --parties 10 -- ./work.sh $phase || exit
  done`,
		Args: commandArgs("conclave barrier enter phase1 --parties 3 -- ./load.sh"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkCount(cmd, "parties", f.parties); err != nil {
				return err
			}
			if err := checkPurpose(f.purpose); err != nil {
				return err
			}
			return a.barrierEnter(cmd.Context(), args[0], args[1:], f, t)
		},
	}
	fs := cmd.Flags()
	fs.IntVar(&f.parties, "parties", 0, "how many begin and end together, 1 to 10000")
	fs.BoolVar(&f.breaks, "break-on-loss", false, "one that dies while it waits breaks it for all; the first one decides")
	fs.StringVar(&f.purpose, "purpose", "", "what for, shown to others")
	fs.Var(&f.wait, "wait", "longest time to wait for the others to come; elapsed: exit code 5")
	t.register(cmd)
	return cmd
}

func (a *app) barrierEnter(ctx context.Context, name string, argv []string, f entering, t tenure) error {
	j, err := a.newJob("barrier", name, argv, t)
	if err != nil {
		return err
	}
	j.own = func(ctx context.Context, s session) (*owned, error) { return s.enter(ctx, name, f) }
	j.refused = func(err error) *Error { return barrierRefused(name, err) }
	defer j.listen()()
	return j.run(ctx).err
}

// barrierRefused says why nobody got past a barrier, if that is up to others.
func barrierRefused(name string, err error) *Error {
	look := fmt.Sprintf("see who is there with: conclave barrier ls %s", quoted(name))
	switch reason := recipe.Reason(err); {
	case errors.Is(err, errWaited):
		return &Error{Exit: ExitNotAcquired, Code: "aborted", Reason: "not_ready", Message: oneLine(err), Hint: look, cause: err}
	case reason == "not_ready", reason == "locked", reason == "full", reason == "conflict", reason == "broken",
		errors.Is(err, barrier.ErrFull), errors.Is(err, barrier.ErrPartiesMismatch), errors.Is(err, barrier.ErrBroken):
		e := describe(err)
		if e.Hint == "" {
			e.Hint = look
		}
		return e
	}
	return nil
}
