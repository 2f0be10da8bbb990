#!/bin/sh
# Makes run/: a folder for redis, folders for nginx, and nginx's config with the ports filled in (nginx
# itself reads no environment variables there). Running it again does no harm.
set -eu
mkdir -p run/redis run/nginx
sed -e "s/@PORT@/$QUICKSTART_PORT/g" -e "s/@WEB_PORT@/$QUICKSTART_WEB_PORT/g" \
    nginx.conf.template >run/nginx.conf
echo "run/ is ready; nginx will listen on port $QUICKSTART_PORT"
