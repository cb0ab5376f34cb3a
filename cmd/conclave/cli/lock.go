package cli

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/conclavehq/conclave/internal/keyspace"
)

const (
	minTTL       = 5 * time.Second
	maxTTL       = time.Hour
	defaultTTL   = 15 * time.Second
	defaultGrace = 5 * time.Second
	maxPurpose   = 256
	maxSlots     = 1_000_000
)

type lockFlags struct {
	shared  bool
	slots   int
	purpose string
	waitFlags
	tenure
}

func (a *app) lockCommand() *cobra.Command {
	cmd := group(&cobra.Command{
		Use:   "lock",
		Short: "Run commands under locks, and see who holds which",
		Example: `  conclave lock run nightly -- ./job.sh
  conclave lock ls
  conclave lock why nightly`,
	})
	cmd.AddCommand(a.lockRunCommand(), a.lockListCommand(), a.lockWhyCommand(), a.lockHistoryCommand(), a.lockReleaseCommand())
	return cmd
}

func (a *app) lockRunCommand() *cobra.Command {
	f := lockFlags{waitFlags: newWaitFlags(), tenure: defaultTenure()}
	cmd := &cobra.Command{
		Use:   "run NAME [flags] -- COMMAND [argument...]",
		Short: "Run a command under a lock",
		Long: `run waits for the lock NAME, runs the command, and lets the lock go when it ends.
The command gets this command's standard streams and the signals INT, TERM, HUP,
QUIT, USR1 and USR2; its exit code comes through (128+n when signal n ended it).
It finds CONCLAVE_NAME, CONCLAVE_TOKEN, CONCLAVE_SESSION and CONCLAVE_OWNER in its
environment. What it leaves running in its process group is ended before the lock
is let go; processes that leave the group are out of reach.

A lock is advisory: nothing but a check of the token by the resource itself stops a
command that was paused or cut off. What can be done from outside is done: when
renewals are no longer acknowledged the command gets TERM at the end of validity
minus --grace, which counts at most a third of --ttl, and KILL at the end of
validity, before the lock can be anyone else's. A guard process kills it at once
when conclave itself dies, and then frees the lock; when conclave is stopped, it
kills at the end of validity. If
a whole container or machine is frozen, guard and all, only the token protects.

Exit codes of its own: 5 not acquired, 7 ownership lost while the command ran, 126
the command cannot be executed, 127 it does not exist; both are found out before
the lock is asked for.`,
		Example: `  conclave lock run nightly -- ./job.sh
  conclave lock run deploy --no-wait -- ./deploy.sh || echo "somebody else deploys"
  conclave lock run reports --shared -- ./read.sh
  conclave lock run workers --slots 3 --wait 1m -- ./work.sh`,
		Args: commandArgs("conclave lock run nightly -- ./job.sh"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.lockRun(cmd.Context(), args[0], args[1:], f.check(cmd))
		},
	}
	fs := cmd.Flags()
	fs.BoolVar(&f.shared, "shared", false, "share the lock with others that say --shared")
	fs.IntVar(&f.slots, "slots", 0, "let up to this many hold NAME at one time; all must give the same number")
	fs.Var(&f.ttl, "ttl", "time until others can have the lock after this machine dies, 5s to 1h")
	f.waitFlags.register(cmd, "longest time to wait in line; elapsed: exit code 5", "do not wait: exit code 5 if the lock is not free")
	fs.StringVar(&f.purpose, "purpose", "", "what for, shown to those who wait")
	fs.Var(&f.grace, "grace", "time between TERM and KILL when renewals stop")
	return cmd
}

// A lockRequest is a checked command line.
type lockRequest struct {
	lockFlags
	err error
}

// check finds what pflag cannot: flags that exclude each other, and numbers.
func (f lockFlags) check(cmd *cobra.Command) lockRequest {
	r := lockRequest{lockFlags: f}
	slots := cmd.Flags().Changed("slots")
	switch {
	case slots && f.shared:
		r.err = usage("invalid_slots", "give one of the two", "--slots and --shared exclude each other")
	case slots && (f.slots < 1 || f.slots > maxSlots):
		r.err = usage("invalid_slots", "", "--slots: %d is outside the limits: it must be between 1 and %d", f.slots, maxSlots)
	}
	if err := f.checkWait(); err != nil && r.err == nil {
		r.err = err
	}
	if err := keyspace.CheckText("--purpose", f.purpose, maxPurpose); err != nil && r.err == nil {
		r.err = usage("invalid_purpose", "", "%s", err)
	}
	return r
}
