package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"github.com/conclavehq/conclave/core/host/callers"
)

type authTokenFlags struct{ file, may string }

func (a *app) authTokenCommand() *cobra.Command {
	var f authTokenFlags
	cmd := &cobra.Command{
		Use: "token NAME", Short: "Make a token for a caller of the hosts' API",
		Long: `token makes a token, prints it, and appends its hash to the file that hosts have as
auth.callers in their configuration; they take it within a second. Hosts with such a
file refuse whoever shows neither a token nor a certificate that the file names. The
token itself is kept nowhere: make another one if it is lost, and take the former line
out of the file.`,
		Example: `  conclave auth token ci --file callers.yaml > ci.token
  conclave auth token dashboard --may read --file callers.yaml
  CONCLAVE_AUTH_TOKEN=$(cat ci.token) conclave lock ls`,
		Args: exactly(1, "NAME"),
		RunE: func(_ *cobra.Command, args []string) error { return a.authToken(args[0], f) },
	}
	cmd.Flags().StringVar(&f.file, "file", "callers.yaml", "the file of callers; it is made if there is none")
	cmd.Flags().StringVar(&f.may, "may", "write", "read, write (also acquire, enqueue, register), or admin (also act on what others own)")
	return cmd
}

func (a *app) authToken(name string, f authTokenFlags) error {
	token, sha := callers.NewToken()
	err := callers.Add(f.file, callers.Entry{Name: name, TokenSHA256: sha, May: f.may})
	switch _, denied := errors.AsType[*fs.PathError](err); {
	case denied:
		return fmt.Errorf("--file: %w", err)
	case err != nil:
		return usage("invalid_callers", "", "%v", err)
	}
	made := struct {
		Name  string `json:"name"`
		May   string `json:"may"`
		Token string `json:"token"`
		File  string `json:"file"`
	}{name, f.may, token, f.file}
	if err := a.print(made, [][]string{{token}}); err != nil {
		return err
	}
	if isTerminal(os.Stderr) {
		a.note("appended to " + f.file + "; the configuration of hosts names it as auth: {callers: " + f.file + "}")
	}
	return nil
}
