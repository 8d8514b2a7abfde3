package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

func serveHTTP(port string) error {
	return http.ListenAndServe(":"+port, http.HandlerFunc(answer))
}

// answer does what the first path element says and echoes the request as it arrived.
func answer(w http.ResponseWriter, r *http.Request) {
	what, value, _ := strings.Cut(strings.Trim(r.URL.Path, "/"), "/")
	code := http.StatusOK
	switch what {
	case "status":
		if n, err := strconv.Atoi(value); err == nil && n >= 200 && n <= 599 {
			code = n
		}
	case "delay":
		if seconds, err := strconv.ParseFloat(value, 64); err == nil {
			time.Sleep(time.Duration(seconds * float64(time.Second)))
		}
	}
	if what != "healthz" {
		fmt.Println(r.RemoteAddr, r.Method, r.URL, code)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(echo(r))
}

func echo(r *http.Request) map[string]any {
	body, _ := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	return map[string]any{
		"app": env("APP", "app"), "version": env("VERSION", "v1"), "pod": os.Getenv("HOSTNAME"),
		"method": r.Method, "path": r.URL.String(), "host": r.Host,
		"headers": r.Header, "body": string(body),
	}
}

func serveTCP(port string) error {
	listener, err := net.Listen("tcp", ":"+port)
	if err != nil {
		return err
	}
	for {
		conn, err := listener.Accept()
		if err != nil {
			return err
		}
		go echoLines(conn)
	}
}

func echoLines(conn net.Conn) {
	defer conn.Close()
	for lines := bufio.NewScanner(conn); lines.Scan(); {
		fmt.Fprintf(conn, "%s %s\n", env("APP", "app"), lines.Text())
	}
}
