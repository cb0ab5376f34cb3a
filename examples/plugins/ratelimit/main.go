// Command ratelimit is a recipe for Conclave hosts: quotas that a fleet shares.
package main

import "github.com/conclavehq/conclave/plugins"

// snippet:main
func main() { plugins.Serve(Recipe{}) }

// end
