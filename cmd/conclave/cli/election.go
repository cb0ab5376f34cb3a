package cli

import (
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/conclavehq/conclave/internal/keyspace"
)

// The limits of a candidate.
const (
	maxValue    = 4096
	maxPriority = 127
	minPriority = -128
	maxZone     = 64
	maxZones    = 15
)

func (a *app) electionCommand() *cobra.Command {
	cmd := group(&cobra.Command{
		Use:   "election",
		Short: "Run commands only while leader, and see who leads",
		Example: `  conclave election run scheduler -- ./scheduler
  conclave election leader scheduler
  conclave election watch scheduler
  conclave election transfer scheduler --to web-2-4711`,
	})
	cmd.AddCommand(a.electionRunCommand(), a.electionLeaderCommand(), a.electionWatchCommand(), a.electionListCommand(),
		a.electionContendersCommand(), a.electionHistoryCommand(), a.electionTransferCommand(), a.electionResignCommand())
	return cmd
}

type electionFlags struct {
	value     string
	priority  int
	zone      string
	preferred []string
	once      bool
	tenure
}

func (a *app) electionRunCommand() *cobra.Command {
	f := electionFlags{tenure: defaultTenure()}
	cmd := &cobra.Command{
		Use:   "run NAME [flags] -- COMMAND [argument...]",
		Short: "Run a command only while leader",
		Long: `run stands for election NAME, runs the command when it has won, and ends it before
anyone else can lead. Then it stands again, at the end of the line, until a signal
ends it: one conclave election run on each of several machines keeps one command
running on one of them.

When the command ends by itself the leadership goes to the next candidate at once,
and this one stands again after a pause: about 1s at first, twice as long each time,
at most about 30s, and 1s again once a command has run for a minute. When the
leadership is transferred, forced to resign or lost the command is ended and run
stands again. While etcd is away run keeps trying, once it has reached it before.
With --once it ends with the first command that it ran.

INT, TERM and QUIT end it all: the command gets the signal, and when it has ended the
next candidate leads and run exits with the command's exit code (128+n when signal n
ended it, or while none runs). So does the interrupt key, which reaches the command
only, if the command ends of it. HUP, USR1 and USR2 are the command's. What it finds
in its environment, what guards it, and what a guard cannot do is as with conclave
lock run: a leader that was paused is stopped by nothing but a check of
CONCLAVE_TOKEN.

Exit codes of its own: 7 leadership lost while the command ran (with --once), 126 the
command cannot be executed, 127 it does not exist.`,
		Example: `  conclave election run scheduler -- ./scheduler
  conclave election run scheduler --value "$(hostname):8080" --ttl 10s -- ./scheduler
  conclave election run migration --once -- ./migrate.sh
  conclave election run primary --priority 10 -- ./serve     # goes before those with less`,
		Args: commandArgs("conclave election run scheduler -- ./scheduler"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.check(); err != nil {
				return err
			}
			return a.electionRun(cmd.Context(), args[0], args[1:], f)
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&f.value, "value", "", "what others see of this leader, such as its address")
	fs.Var(&f.ttl, "ttl", "time until another can lead after this machine dies, 5s to 1h")
	fs.IntVar(&f.priority, "priority", 0, "a larger one goes first, -128 to 127; nobody who leads is interrupted")
	fs.StringVar(&f.zone, "zone", "", "where this one runs, such as a data centre")
	fs.StringSliceVar(&f.preferred, "prefer-zones", nil, "where the leader had better be, the best first; the same for all")
	fs.BoolVar(&f.once, "once", false, "end when the command that was run has ended")
	fs.Var(&f.grace, "grace", "time between TERM and KILL when the leadership ends")
	return cmd
}

// check finds what pflag cannot.
func (f *electionFlags) check() error {
	if f.priority < minPriority || f.priority > maxPriority {
		return usage("invalid_priority", "", "--priority: %d is outside the limits: it must be between %d and %d", f.priority, minPriority, maxPriority)
	}
	switch {
	case len(f.value) > maxValue:
		return usage("invalid_value", "", "--value: has %d bytes, the limit is %d", len(f.value), maxValue)
	case !utf8.ValidString(f.value):
		return usage("invalid_value", "", "--value: is not valid UTF-8")
	case len(f.preferred) > maxZones:
		return usage("invalid_prefer-zones", "", "--prefer-zones: names %d zones, the limit is %d", len(f.preferred), maxZones)
	}
	for _, zone := range f.preferred {
		if err := keyspace.CheckText("--prefer-zones", zone, maxZone); err != nil {
			return usage("invalid_prefer-zones", "", "%s", err)
		}
	}
	if err := keyspace.CheckText("--zone", f.zone, maxZone); err != nil {
		return usage("invalid_zone", "", "%s", err)
	}
	return nil
}
