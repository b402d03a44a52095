CREATE OR REPLACE MODEL `bqml_tutorial.my_explicit_mf_model`
OPTIONS
  (model_type='matrix_factorization',
   user_col='user_id',
   item_col='item_id',
   l2_reg=9.83,
   num_factors=34) AS
SELECT
  userId AS user_id,
  movieId AS item_id,
  rating
FROM `bigquery-public-data.movielens.ratings`

SELECT * FROM ML.EVALUATE(MODEL `bqml_tutorial.my_explicit_mf_model`, (SELECT userId AS user_id, movieId AS item_id, rating FROM `bigquery-public-data.movielens.ratings`))

SELECT * FROM ML.TRAINING_INFO(MODEL `bqml_tutorial.my_explicit_mf_model`)

CREATE OR REPLACE MODEL movies.movie_recommender
OPTIONS (model_type='matrix_factorization', user_col='userId', item_col='movieId', rating_col='rating', l2_reg=0.2, num_factors=16) AS
SELECT userId, movieId, rating
FROM `bigquery-public-data.movielens.ratings`

SELECT * FROM ML.PREDICT(MODEL movies.movie_recommender, (
  WITH seen AS (
    SELECT movieId AS movieId
    FROM `bigquery-public-data.movielens.ratings` WHERE userId = 9
  )
  SELECT movieId, title, 9 AS userId
  FROM `bigquery-public-data.movielens.movies`
  WHERE genres LIKE '%Comedy%' AND movieId NOT IN (SELECT movieId FROM seen)
))
ORDER BY predicted_rating DESC
LIMIT 5

SELECT * FROM ML.RECOMMEND(MODEL movies.movie_recommender) ORDER BY predicted_rating DESC LIMIT 5

SELECT recs.userid, recs.predicted_rating, m.title
FROM ML.RECOMMEND(MODEL movies.movie_recommender, (SELECT 5 AS userId)) AS recs
JOIN `bigquery-public-data.movielens.movies` AS m
ON recs.movieId = m.movieid
ORDER BY predicted_rating DESC, title
LIMIT 5

SELECT
  user_id,
  ARRAY_AGG(STRUCT(item_id, predicted_rating) ORDER BY predicted_rating DESC LIMIT 5) AS recommended
FROM ML.RECOMMEND(MODEL `bqml_tutorial.my_explicit_mf_model`)
GROUP BY user_id

SELECT processed_input, feature, TO_JSON_STRING(factor_weights) AS factors, intercept
FROM ML.WEIGHTS(MODEL movies.movie_recommender)
WHERE (processed_input = 'movieId' AND feature = '3') OR (processed_input = "userId" AND feature = '7')

CREATE OR REPLACE MODEL movies.implicit
OPTIONS (MODEL_TYPE = 'MATRIX_FACTORIZATION', FEEDBACK_TYPE = 'IMPLICIT', USER_COL = 'visitorId', ITEM_COL = 'contentId', RATING_COL = 'session_duration', L2_REG = 30, WALS_ALPHA = 40, NUM_FACTORS = 8) AS
SELECT CAST(userId AS STRING) AS visitorId, CAST(movieId AS STRING) AS contentId, 0.3 * (1 + (rating - 3) / 2) AS session_duration
FROM `bigquery-public-data.movielens.ratings`
WHERE rating > 1

SELECT * FROM ML.EVALUATE(MODEL movies.implicit)

SELECT visitorId, contentId, predicted_session_duration_confidence
FROM ML.RECOMMEND(MODEL movies.implicit, (SELECT '7' AS visitorId))
ORDER BY predicted_session_duration_confidence DESC
LIMIT 5

SELECT feature, ml_generate_embedding_result FROM ML.GENERATE_EMBEDDING(MODEL movies.implicit) LIMIT 3

CREATE OR REPLACE MODEL movies.defaults OPTIONS(model_type='matrix_factorization', num_factors=8) AS
SELECT user, item, rating FROM `bigquery-public-data.movielens.film_ratings`

SELECT user, item, predicted_rating FROM ML.RECOMMEND(MODEL movies.defaults, (SELECT DISTINCT user FROM `bigquery-public-data.movielens.film_ratings` WHERE user < 3)) ORDER BY user, predicted_rating DESC

SELECT r.user, COUNT(*) AS n FROM `bigquery-public-data.movielens.film_ratings` r WHERE r.user BETWEEN 1 AND 4 GROUP BY user ORDER BY user

CREATE OR REPLACE MODEL movies.hybrid OPTIONS(model_type='linear_reg', input_label_cols=['rating']) AS
WITH factors AS (
  SELECT feature, ARRAY_AGG(f.weight ORDER BY f.factor) AS w
  FROM ML.WEIGHTS(MODEL movies.movie_recommender), UNNEST(factor_weights) AS f WHERE processed_input = 'movieId' AND feature IS NOT NULL GROUP BY feature
)
SELECT r.rating, f.w[OFFSET(0)] AS f0, f.w[OFFSET(1)] AS f1, SPLIT(m.genres, '|')[OFFSET(0)] AS genre
FROM `bigquery-public-data.movielens.ratings` AS r
JOIN factors AS f ON f.feature = CAST(r.movieId AS STRING)
JOIN `bigquery-public-data.movielens.movies` m USING (movieId)

SELECT EXTRACT(YEAR FROM TIMESTAMP_SECONDS(timestamp)) AS year, COUNT(*) AS n FROM `bigquery-public-data.movielens.ratings` GROUP BY 1
