package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/conclavehq/conclave/internal/keyspace"
)

// forceFlags are those of a command that takes from others what is theirs.
type forceFlags struct {
	force  bool
	reason string
	token  int64

	noun   string // what the name is one of
	again  string // the command line that would do, with %s for the name
	needs  string // why there is --force
	reader string // who reads the reason
}

func (f *forceFlags) register(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&f.force, "force", false, "yes, take it from its owner")
	cmd.Flags().StringVar(&f.reason, "reason", "", fmt.Sprintf("why, as %s and the history will say it", f.reader))
	cmd.Flags().Int64Var(&f.token, "token", 0, "only the ownership with this token")
}

func (f *forceFlags) check(name string) error {
	again := fmt.Sprintf(f.again, quoted(name))
	if err := keyspace.CheckName("name", name); err != nil {
		return usage("invalid_name", "", "%s", err)
	}
	switch {
	case !f.force:
		return usage("invalid_force", again, "%s %q %s", f.noun, name, f.needs)
	case f.reason == "":
		return usage("invalid_reason", again, "--reason is missing: %s and the history will say it", f.reader)
	case f.token < 0:
		return usage("invalid_token", "", "--token: %d is negative", f.token)
	}
	if err := keyspace.CheckText("--reason", f.reason, maxPurpose); err != nil {
		return usage("invalid_reason", "", "%s", err)
	}
	return nil
}

// printRevoked prints which ownership was taken away.
func (a *app) printRevoked(name string, token int64) error {
	doc := map[string]string{"name": name, "token": tokenText(token)}
	return a.print(doc, [][]string{{doc["token"]}})
}
