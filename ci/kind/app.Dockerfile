# The lab's sample program, which its estate runs: docker build --file ci/kind/app.Dockerfile ci/lab/app
FROM docker.io/library/golang:1.25 AS build
COPY . /src
RUN cd /src && CGO_ENABLED=0 go build -o /labapp ./labapp
FROM scratch
COPY --from=build /labapp /usr/local/bin/labapp
ENV PATH=/usr/local/bin
ENTRYPOINT ["labapp"]
