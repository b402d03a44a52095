-- Small tables with the schemas of public data sets, in DataFusion's own dialect.

CREATE DATABASE "bigquery-public-data";
CREATE SCHEMA "bigquery-public-data".analytics_demo;
CREATE SCHEMA "bigquery-public-data".chicago_taxi_trips;
CREATE SCHEMA "bigquery-public-data".google_analytics_sample;
CREATE SCHEMA "bigquery-public-data".london_bicycles;
CREATE SCHEMA "bigquery-public-data".ml_datasets;
CREATE SCHEMA "bigquery-public-data".movielens;
CREATE SCHEMA "bigquery-public-data".retail;
CREATE SCHEMA "bigquery-public-data".samples;
CREATE SCHEMA "bigquery-public-data".san_francisco_bikeshare;

CREATE TABLE "bigquery-public-data".google_analytics_sample.ga_sessions AS SELECT
  CAST(1000000 + value % 700 AS VARCHAR) AS "fullVisitorId", 1470000000 + value * 977 AS "visitId",
  CAST(to_timestamp(1470000000 + value * 9770) AS DATE) AS "parsedDate",
  to_char(to_timestamp(1470000000 + value * 9770), '%Y%m%d') AS date,
  named_struct('visits', 1, 'hits', value % 31 + 1, 'pageviews', CASE WHEN value % 37 = 0 THEN NULL ELSE value % 23 + 1 END,
    'timeOnSite', CASE WHEN value % 9 = 0 THEN NULL ELSE (value * 13) % 900 END, 'bounces', CASE WHEN value % 2 = 0 THEN 1 END,
    'transactions', CASE WHEN value % 23 + (value * 7) % 11 > 26 THEN 1 END) AS totals,
  named_struct('operatingSystem', CASE value % 4 WHEN 0 THEN 'Macintosh' WHEN 1 THEN 'Windows' WHEN 2 THEN 'iOS' END,
    'isMobile', value % 4 = 2, 'deviceCategory', CASE WHEN value % 4 = 2 THEN 'mobile' ELSE 'desktop' END, 'browser', CASE WHEN value % 3 = 0 THEN 'Safari' ELSE 'Chrome' END) AS device,
  named_struct('country', CASE value % 5 WHEN 0 THEN 'United States' WHEN 1 THEN 'India' WHEN 2 THEN 'Chile' WHEN 3 THEN NULL ELSE 'Norway' END, 'region', 'r' || CAST(value % 7 AS VARCHAR)) AS "geoNetwork",
  named_struct('source', CASE WHEN value % 3 = 0 THEN 'google' ELSE '(direct)' END, 'medium', CASE WHEN value % 3 = 0 THEN 'organic' ELSE '(none)' END) AS "trafficSource",
  CASE WHEN value % 3 = 0 THEN 'Organic Search' ELSE 'Direct' END AS "channelGrouping"
FROM generate_series(1, 900);

CREATE TABLE "bigquery-public-data".analytics_demo.ga4_events AS SELECT
  'user' || CAST(value % 80 AS VARCHAR) AS user_pseudo_id, to_char(to_timestamp(1530000000 + value * 5000), '%Y%m%d') AS event_date,
  (1530000000 + value * 5000) * 1000000 + (value * 977) % 1000000 AS event_timestamp,
  CASE (value * 7) % 6 WHEN 0 THEN 'level_start' WHEN 1 THEN 'level_end' WHEN 2 THEN 'user_engagement' WHEN 3 THEN 'spend_virtual_currency' WHEN 4 THEN 'post_score' ELSE 'session_start' END AS event_name,
  named_struct('country', CASE WHEN value % 3 = 0 THEN 'Japan' ELSE 'Peru' END) AS geo,
  named_struct('operating_system', CASE WHEN value % 2 = 0 THEN 'ANDROID' ELSE 'IOS' END, 'language', CASE WHEN value % 5 = 0 THEN 'ja-jp' ELSE 'en-us' END) AS device,
  [named_struct('key', 'score', 'value', named_struct('int_value', value % 50, 'string_value', 's')), named_struct('key', 'level', 'value', named_struct('int_value', value % 9, 'string_value', 't'))] AS event_params
FROM generate_series(1, 1600);

CREATE TABLE "bigquery-public-data".chicago_taxi_trips.taxi_trips AS SELECT
  to_timestamp(1420070400 + value * 3700) AS pickup_datetime, to_timestamp(1420070400 + value * 3700 + 300 + value % 1200) AS dropoff_datetime,
  CAST(to_timestamp(1420070400 + value * 3700) AS TIMESTAMP WITH TIME ZONE) AS pickup_ts,
  -73.99 + sin(value * 0.7) / 20 AS pickup_longitude, 40.74 + cos(value * 1.3) / 20 AS pickup_latitude,
  -73.98 + sin(value * 2.1) / 20 AS dropoff_longitude, 40.75 + cos(value * 0.4) / 20 AS dropoff_latitude,
  value % 6 AS passenger_count, 0.5 + value % 11 AS trip_distance, 3.5 + 2.1 * (value % 11) + (value * 7) % 3 AS fare_amount,
  CASE WHEN value % 5 = 0 THEN 5.5 ELSE 0.0 END AS tolls_amount, CASE WHEN value % 4 = 0 THEN 2.0 ELSE 0.0 END AS tip_amount,
  CASE WHEN value % 3 = 0 THEN 'Cash' ELSE 'Credit Card' END AS payment_type, CAST(value % 77 AS BIGINT) AS pickup_community_area, 'k' || CAST(value AS VARCHAR) AS unique_key
FROM generate_series(1, 900);

CREATE TABLE "bigquery-public-data".san_francisco_bikeshare.bikeshare_trips AS SELECT
  value AS trip_id, 300 + (value * 17) % 2400 + 400 * (value % 7) AS duration_sec, 60 * (5 + (value * 17) % 40) AS duration,
  to_timestamp(1440000000 + value * 4100) AS start_date, 'Station ' || CAST(value % 12 AS VARCHAR) AS start_station_name, CAST(value % 12 AS BIGINT) AS start_station_id,
  'Station ' || CAST((value * 5) % 12 AS VARCHAR) AS end_station_name, CASE WHEN value % 4 = 0 THEN 'Customer' ELSE 'Subscriber' END AS c_subscription_type,
  1950 + value % 50 AS member_birth_year, CASE value % 5 WHEN 0 THEN NULL WHEN 1 THEN 'Female' ELSE 'Male' END AS member_gender
FROM generate_series(1, 1200);

CREATE TABLE "bigquery-public-data".london_bicycles.bikeshare_stations AS SELECT value AS station_id, 'Station ' || CAST(value AS VARCHAR) AS name, -0.12 + value / 100.0 AS longitude, 51.5 + (value % 4) / 90.0 AS latitude, 10 + value * 2 AS docks_count
FROM generate_series(0, 11);

CREATE TABLE "bigquery-public-data".samples.natality AS SELECT
  5.0 + (value * 13) % 40 / 10.0 + CASE WHEN value % 2 = 0 THEN 0.4 ELSE 0 END AS weight_pounds, value % 2 = 0 AS is_male, 16 + value % 30 AS mother_age,
  CASE WHEN value % 29 = 0 THEN NULL ELSE 32 + (value * 13) % 10 END AS gestation_weeks, 1 + CASE WHEN value % 31 = 0 THEN 1 ELSE 0 END AS plurality,
  CASE value % 4 WHEN 0 THEN NULL WHEN 1 THEN true ELSE false END AS cigarette_use, 1 + value % 12 AS month, 2000 + value % 6 AS year, CASE WHEN value % 7 = 0 THEN NULL ELSE 1 + value % 28 END AS day,
  CASE value % 5 WHEN 0 THEN 'CA' WHEN 1 THEN 'TX' WHEN 2 THEN 'NY' ELSE 'WA' END AS state, CAST(value % 3 AS BIGINT) AS mother_race, 7 + (value % 3) AS apgar_5min
FROM generate_series(1, 900);

CREATE TABLE "bigquery-public-data".ml_datasets.census_adult_income AS SELECT
  17 + value % 60 AS age, CASE value % 4 WHEN 0 THEN ' Private' WHEN 1 THEN ' State-gov' WHEN 2 THEN ' ?' ELSE ' Self-emp-inc' END AS workclass, value * 100 AS functional_weight,
  CASE value % 3 WHEN 0 THEN ' Bachelors' WHEN 1 THEN ' HS-grad' ELSE ' Masters' END AS education, 5 + value % 11 AS education_num,
  CASE WHEN value % 2 = 0 THEN ' Married-civ-spouse' ELSE ' Never-married' END AS marital_status, CASE value % 3 WHEN 0 THEN ' Sales' ELSE ' Tech-support' END AS occupation,
  ' Husband' AS relationship, ' White' AS race, CASE WHEN value % 2 = 0 THEN ' Male' ELSE ' Female' END AS sex, CASE WHEN value % 17 = 0 THEN 7000 ELSE 0 END AS capital_gain, 0 AS capital_loss,
  20 + (value * 3) % 50 AS hours_per_week, ' United-States' AS native_country, CASE WHEN 5 + value % 11 + (value * 3) % 50 / 5 > 17 THEN ' >50K' ELSE ' <=50K' END AS income_bracket
FROM generate_series(1, 1000);

CREATE TABLE "bigquery-public-data".ml_datasets.penguins AS SELECT
  CASE value % 3 WHEN 0 THEN 'Adelie Penguin (Pygoscelis adeliae)' WHEN 1 THEN 'Gentoo penguin (Pygoscelis papua)' ELSE 'Chinstrap penguin (Pygoscelis antarctica)' END AS species,
  CASE WHEN value % 3 = 1 THEN 'Biscoe' WHEN value % 2 = 0 THEN 'Dream' ELSE 'Torgersen' END AS island,
  CASE WHEN value = 4 THEN NULL ELSE 36 + (value * 7) % 9 + 6 * (value % 3) END AS culmen_length_mm, CASE WHEN value = 4 THEN NULL ELSE 14 + (value * 5) % 6 / 2.0 - value % 3 END AS culmen_depth_mm,
  CASE WHEN value = 4 THEN NULL ELSE 180 + (value * 11) % 20 + CASE WHEN value % 3 = 1 THEN 25 ELSE 0 END END AS flipper_length_mm,
  CASE WHEN value = 4 THEN NULL ELSE 3300 + (value * 13) % 700 + CASE WHEN value % 3 = 1 THEN 1200 ELSE 0 END END AS body_mass_g,
  CASE WHEN value = 4 THEN NULL WHEN value = 33 THEN '.' WHEN value % 2 = 0 THEN 'MALE' ELSE 'FEMALE' END AS sex
FROM generate_series(1, 344);

CREATE TABLE "bigquery-public-data".movielens.ratings AS SELECT value % 60 AS "userId", CAST(abs(sin(value * 1.7)) * 40 AS BIGINT) AS "movieId", 1.0 + (value * 7 + value % 60) % 9 / 2.0 AS rating, 1100000000 + value AS "timestamp" FROM generate_series(1, 1500);

CREATE TABLE "bigquery-public-data".movielens.film_ratings AS SELECT value % 60 AS "user", CAST(abs(sin(value * 1.7)) * 40 AS BIGINT) AS item, 1.0 + (value * 7) % 9 / 2.0 AS rating FROM generate_series(1, 1500);

CREATE TABLE "bigquery-public-data".movielens.movies AS SELECT value AS "movieId", 'Film ' || CAST(value AS VARCHAR) AS title, CASE WHEN value % 2 = 0 THEN 'Comedy|Drama' ELSE 'Thriller' END AS genres FROM generate_series(0, 40);

CREATE TABLE "bigquery-public-data".retail.online_retail AS SELECT CAST(536365 + value / 4 AS VARCHAR) AS "InvoiceNo", 'S' || CAST(value % 25 AS VARCHAR) AS "StockCode", 'Thing ' || CAST(value % 25 AS VARCHAR) AS "Description", 1 + (value * 7) % 20 AS "Quantity",
  to_timestamp(1291190000 + value * 8000) AS "InvoiceDate", 0.5 + value % 25 AS "UnitPrice", CASE WHEN value % 41 = 0 THEN NULL ELSE CAST(12000 + value % 90 AS DOUBLE) END AS "CustomerID", CASE WHEN value % 6 = 0 THEN 'France' ELSE 'United Kingdom' END AS "Country"
FROM generate_series(1, 1500);
