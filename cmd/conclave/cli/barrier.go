package cli

import "github.com/spf13/cobra"

const (
	maxParties   = 10_000
	maxOperation = 255
)

func (a *app) barrierCommand() *cobra.Command {
	cmd := group(&cobra.Command{
		Use:   "barrier",
		Short: "Let commands wait for each other: barriers, phases and latches",
		Example: `  conclave barrier hold maintenance                       # closed until this ends
  conclave barrier wait maintenance -- ./start.sh         # once nobody holds it
  conclave barrier enter phase1 --parties 3 -- ./load.sh  # three begin and end together
  conclave barrier countdown loaded --count 10            # one of ten is done
  conclave barrier await loaded --count 10                # until all ten are`,
	})
	cmd.AddCommand(a.barrierHoldCommand(), a.barrierReleaseCommand(), a.barrierWaitCommand(), a.barrierEnterCommand(),
		a.barrierCountDownCommand(), a.barrierAwaitCommand(), a.barrierResetCommand(), a.barrierListCommand())
	return cmd
}

// checkCount checks how many parties or operations there are.
func checkCount(cmd *cobra.Command, flag string, n int) error {
	switch {
	case !cmd.Flags().Changed(flag):
		return usage("invalid_"+flag, "usage: "+cmd.UseLine(), "--%s is missing: say how many there are", flag)
	case n < 1 || n > maxParties:
		return usage("invalid_"+flag, "", "--%s: %d is outside the limits: it must be between 1 and %d", flag, n, maxParties)
	}
	return nil
}
