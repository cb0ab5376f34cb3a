package cli

import (
	"time"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/etcdutl/v3/etcdutl"
)

// etcdutlCommand is upstream's etcdutl below `conclave etcdutl`.
func (a *app) etcdutlCommand() *cobra.Command {
	return a.mounted("etcdutl", "etcd's own commands for data files: snapshot status, snapshot restore, defrag …",
		`  conclave etcdutl snapshot status backup.db -w table
  conclave etcdutl snapshot restore backup.db --data-dir ./restored`, a.newEtcdutl)
}

func (a *app) newEtcdutl() *cobra.Command {
	root := a.newMount("etcdutl", "etcd's own tool for data files, etcdutl, as part of conclave")
	fs := root.PersistentFlags()
	fs.DurationVar(&etcdutl.FlockTimeout, "timeout", 10*time.Second, "time to wait for the lock of a database file, 0 for ever")
	fs.StringVarP(&etcdutl.OutputFormat, "write-out", "w", "simple", "output format: fields, json, protobuf, simple, table")
	root.AddCommand(etcdutl.NewDefragCommand(), etcdutl.NewSnapshotCommand(), etcdutl.NewHashKVCommand(),
		etcdutl.NewVersionCommand(), etcdutl.NewMigrateCommand())
	adapt(root, "etcdutl")
	return root
}
