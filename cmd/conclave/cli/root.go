package cli

import (
	"errors"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// helpTemplate begins with examples: most people come to help for one.
const helpTemplate = `{{if .HasExample}}Examples:
{{.Example}}

{{end}}{{with (or .Long .Short)}}{{. | trimTrailingWhitespaces}}

{{end}}{{.UsageString}}`

const usageTemplate = `Usage:{{if .HasAvailableSubCommands}}
  {{.CommandPath}} <command>{{else}}
  {{.UseLine}}{{end}}{{if .HasAvailableSubCommands}}

Commands:{{range .Commands}}{{if .IsAvailableCommand}}
  {{rpad .Name .NamePadding}} {{.Short}}{{end}}{{end}}{{end}}{{if .HasAvailableLocalFlags}}

Flags:
{{.LocalFlags.FlagUsages | trimTrailingWhitespaces}}{{end}}{{if .HasAvailableInheritedFlags}}

Global flags:
{{.InheritedFlags.FlagUsages | trimTrailingWhitespaces}}{{end}}
`

func (a *app) root() *cobra.Command {
	root := group(&cobra.Command{
		Use:   "conclave",
		Short: "Coordination recipes on etcd",
		Long: `conclave coordinates programs on etcd: it runs commands under locks and while they
lead, shows who holds and waits for what, and runs the hosts that serve all that to
other programs.

Commands ask a host: the one of --api, CONCLAVE_API or the context in use, else a
conclave dev of yours, else http://127.0.0.1:2378. With --endpoints they need none and
go straight to that etcd; what they mean stays the same.

Exit codes: 0 done, 1 failed, 2 usage, 3 not found, 4 not permitted, 5 not acquired,
6 unavailable, 7 ownership lost while the command ran, 8 outcome unknown, 124 timed out.`,
		Example: `  conclave dev                               # a host and its etcd for development
  conclave lock run nightly -- ./job.sh      # run a command under a lock
  conclave election run web -- ./scheduler   # run it on one machine of several
  conclave lock why nightly                  # who holds it, who waits, what to do
  conclave doctor                            # what is wrong, and how to mend it
  conclave etcdctl get --prefix /            # etcd's own commands`,
		SilenceErrors: true,
		SilenceUsage:  true,
	})
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetIn(a.stdin)
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	root.SetHelpTemplate(helpTemplate)
	root.SetUsageTemplate(usageTemplate)
	root.SetFlagErrorFunc(flagError)
	root.SetHelpCommand(a.helpCommand(root))
	a.flags.register(root)
	root.AddCommand(a.devCommand(), a.serveCommand(), a.lockCommand(), a.electionCommand(), a.barrierCommand(), a.queueCommand(), a.serviceCommand(), a.configCommand(), a.recipeCommand(), a.pluginCommand(), a.callCommand(),
		a.statusCommand(), a.doctorCommand(), a.contextCommand(),
		a.benchCommand(), a.authCommand(), a.certsCommand(), a.maintenanceCommand(), a.snapshotCommand(), a.migrateCommand(), a.importCommand(), a.etcdctlCommand(), a.etcdutlCommand(),
		a.versionCommand(), a.completionCommand())
	root.AddCommand(a.memberCommand())
	return root
}

func (a *app) helpCommand(root *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use:   "help [command]",
		Short: "Show help for a command",
		RunE: func(_ *cobra.Command, args []string) error {
			cmd, rest, err := root.Find(args)
			if err == nil && cmd.DisableFlagParsing {
				return cmd.RunE(cmd, append(rest, "--help"))
			}
			if err != nil || len(rest) > 0 {
				if cmd == nil {
					cmd = root
				}
				return unknownCommand(cmd, append(rest, args...)[0])
			}
			cmd.InitDefaultHelpFlag()
			return cmd.Help()
		},
	}
}

func (a *app) completionCommand() *cobra.Command {
	shells := []string{"bash", "zsh", "fish", "powershell"}
	return &cobra.Command{
		Use:   "completion SHELL",
		Short: "Print a completion script for bash, zsh, fish or powershell",
		Example: `  source <(conclave completion bash)                                  # this shell
  conclave completion zsh > "${fpath[1]}/_conclave"                   # every zsh
  conclave completion fish > ~/.config/fish/completions/conclave.fish # every fish
  conclave completion powershell | Out-String | Invoke-Expression     # this PowerShell`,
		ValidArgs: shells,
		Args:      exactly(1, "SHELL"),
		RunE: func(cmd *cobra.Command, args []string) error {
			switch args[0] {
			case "bash":
				return cmd.Root().GenBashCompletionV2(a.stdout, true)
			case "zsh":
				return cmd.Root().GenZshCompletion(a.stdout)
			case "fish":
				return cmd.Root().GenFishCompletion(a.stdout, true)
			case "powershell":
				return cmd.Root().GenPowerShellCompletionWithDesc(a.stdout)
			}
			return usage("invalid_shell", didYouMean(args[0], shells, ""), "shell: %q is not one of bash, zsh, fish, powershell", args[0])
		},
	}
}

// exactly refuses another number of arguments than n, which are called what.
func exactly(n int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < n:
			return usage("invalid_arguments", "usage: "+cmd.UseLine(), "%s: %s is missing", cmd.CommandPath(), what)
		case len(args) > n:
			return usage("invalid_arguments", "usage: "+cmd.UseLine(), "%s: unexpected argument %q", cmd.CommandPath(), args[n])
		}
		return nil
	}
}

func asError(err error) (*Error, bool) {
	return errors.AsType[*Error](err)
}

func asUnknownFlag(err error) (string, bool) {
	e, ok := errors.AsType[*pflag.NotExistError](err)
	if !ok {
		return "", false
	}
	return e.GetSpecifiedName(), true
}
