// Command cron is a recipe for Conclave hosts: jobs on a schedule, once in a
// fleet.
package main

import "github.com/conclavehq/conclave/plugins"

func main() { plugins.Serve(Recipe{}) }
