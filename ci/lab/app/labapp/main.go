// labapp is every sample workload of the lab: HTTP server, TCP server and client.
package main

import (
	"fmt"
	"os"
)

const usage = `usage:
  labapp http                       serve HTTP on $PORT (8080): /status/N /delay/S /healthz, else echo
  labapp tcp                        echo lines on $PORT (9000)
  labapp client TARGET...           call each http://... or tcp://host:port once a second, for ever
  labapp get [-H 'k: v']... [-k] [-c CA] [-s HOST:PORT] URL
                                    one request; print status, headers and body; -s connects there
                                    instead; exit 0 if answered with 2xx or 3xx, 1 if answered
                                    otherwise, 2 if not answered`

func main() {
	if len(os.Args) < 2 {
		fail(usage)
	}
	args := os.Args[2:]
	switch os.Args[1] {
	case "http":
		fail(serveHTTP(env("PORT", "8080")))
	case "tcp":
		fail(serveTCP(env("PORT", "9000")))
	case "client":
		callForever(args)
	case "get":
		os.Exit(get(args))
	default:
		fail(usage)
	}
}

func env(name, otherwise string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return otherwise
}

func fail(why any) {
	fmt.Fprintln(os.Stderr, why)
	os.Exit(2)
}
