package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/conclavehq/conclave/cmd/conclave/internal/importer"
)

func (a *app) migrateCommand() *cobra.Command {
	cmd := group(&cobra.Command{
		Use:     "migrate",
		Short:   "Bring keys from etcd's v2 store",
		Example: `  conclave migrate v2 --data-dir /var/lib/etcd --dry-run`,
	})
	cmd.AddCommand(a.migrateV2Command())
	return cmd
}

func (a *app) migrateV2Command() *cobra.Command {
	var (
		f       importFlags
		dataDir string
	)
	cmd := &cobra.Command{
		Use:   "v2 --data-dir DIR",
		Short: "Bring the keys of etcd's v2 API, from the data directory of a stopped member",
		Long: `v2 reads the data directory of an etcd of 2.3 to 3.5: the newest snapshot and the log
behind it, which stay as they are. Stop the member first; one whose log is complete, such
as the last leader, is enough.

Keys are as the v2 API has them, with a slash at the beginning; hidden ones come too.
A key that expires gets a lease for the time that it has left; the time of a directory
counts for what is in it. Directories themselves have no counterpart.
` + howImported,
		Example: `  conclave migrate v2 --data-dir /var/lib/etcd --dry-run
  conclave migrate v2 --data-dir /var/lib/etcd
  conclave migrate v2 --data-dir /var/lib/etcd --only /app/ --map /app/=shop/ --endpoints http://10.0.0.1:2379`,
		Args: exactly(0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if dataDir == "" {
				return usage("invalid_data-dir", "such as: --data-dir /var/lib/etcd", "--data-dir is missing")
			}
			return a.bring(cmd.Context(), f, func(context.Context) (importer.Found, error) { return importer.FromV2(dataDir) })
		},
	}
	cmd.Flags().StringVar(&dataDir, "data-dir", "", "data directory of a stopped etcd member")
	f.register(cmd.Flags())
	return cmd
}
